"""Exact search by cosine similarity, shared by the k-nearest and the radius retriever.

Both find what FAISS's flat index finds, which they are named after; ties, bans and near-duplicates are settled at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.base import Array
from ._vectors import Unit, cosine
from .cosine import CosineIndex

_ROUNDING = 1e-5  # a product of unit vectors in single precision is right up to this


@dataclass(frozen=True, eq=False)
class ExactIndex(CosineIndex):
    """The ``k`` most similar references that are at least ``floor`` similar.

    Attributes:
        floor: of the similarity.
    """

    floor: float

    @classmethod
    def build(cls, vectors: Array, k: int, floor: float = -1.0) -> ExactIndex:
        """An index over ``vectors [N, D]`` of any length."""
        return cls(cls.scaled(vectors), k, floor)

    def nearest(
        self, query: Unit, banned: list[int], max_similarity: float, key: int | None
    ) -> tuple[NDArray[np.int64], Unit]:
        """Single precision finds all rows that could be among the k nearest, ties too; double precision ranks them."""
        rough = self.vectors @ query
        rough[banned] = -np.inf
        allowed = rough[rough <= max_similarity - _ROUNDING]
        kth = np.partition(allowed, -self.k)[-self.k] if len(allowed) >= self.k else -np.inf
        rows = np.flatnonzero(rough >= max(kth, self.floor) - 2 * _ROUNDING)
        similarity = cosine(self.vectors[rows], query)
        kept = (similarity <= max_similarity) & (similarity >= self.floor)
        return rows[kept], similarity[kept]
