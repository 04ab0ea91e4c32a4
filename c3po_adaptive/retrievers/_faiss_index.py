"""Exact search by cosine similarity with FAISS, shared by the k-nearest and the radius retriever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.base import Array
from .cosine import CosineIndex, Unit, cosine

_ROUNDING = 1e-5  # FAISS sums in single precision: its order is right up to this
_SPARE = 8  # near-duplicates of a question that may be too alike


@dataclass(frozen=True, eq=False)
class ExactIndex(CosineIndex):
    """The ``k`` most similar references that are at least ``floor`` similar.

    Attributes:
        flat: the FAISS index over the vectors.
        floor: of the similarity.
    """

    flat: Any
    floor: float

    @classmethod
    def build(cls, vectors: Array, k: int, floor: float = -1.0) -> ExactIndex:
        """An index over ``vectors [N, D]`` of any length."""
        import faiss

        scaled = cls.scaled(vectors)
        flat = faiss.IndexFlatIP(scaled.shape[1])
        flat.add(scaled)
        return cls(scaled, k, flat, floor)

    def nearest(
        self, query: Unit, banned: list[int], max_similarity: float, key: int | None
    ) -> tuple[NDArray[np.int64], Unit]:
        """FAISS ranks some more than are wanted; where its last one may tie with the k-th that is allowed, it finds all
        that may: of those the lower row must win."""
        ranked, found = self.flat.search(query[None], min(self.k + len(banned) + _SPARE, len(self.vectors)))
        rows, similarity = self._allowed_of(found[0], query, banned, max_similarity)
        kth = np.partition(similarity, -self.k)[-self.k] if len(rows) >= self.k else self.floor
        if len(found[0]) == len(self.vectors) or ranked[0, -1] < kth - _ROUNDING:
            return rows, similarity
        _, _, near = self.flat.range_search(query[None], float(kth) - 2 * _ROUNDING)
        return self._allowed_of(near, query, banned, max_similarity)

    def _allowed_of(
        self, rows: NDArray[np.int64], query: Unit, banned: list[int], max_similarity: float
    ) -> tuple[NDArray[np.int64], Unit]:
        similarity = cosine(self.vectors[rows], query)
        allowed = (similarity <= max_similarity) & (similarity >= self.floor) & ~np.isin(rows, banned)
        return rows[allowed], similarity[allowed]
