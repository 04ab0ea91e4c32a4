"""Exact search by cosine similarity with FAISS, shared by the k-nearest and the radius retriever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.base import Array
from ._vectors import Unit, cosine
from .cosine import CosineIndex

_ROUNDING = 1e-5  # FAISS sums in single precision: its order is right up to this


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

    def nearest(self, query: Unit, banned: list[int], max_similarity: float, key: int | None) -> Any:
        """FAISS ranks candidates, more and more of them until k are allowed."""
        wanted = self.k + len(banned) + 8
        while True:
            wanted = min(wanted, len(self.vectors))
            ranked, found = self.flat.search(query[None], wanted)
            index, last = found[0], ranked[0, -1]
            similarity = cosine(self.vectors[index], query)
            allowed = (similarity <= max_similarity) & (similarity >= self.floor) & ~np.isin(index, banned)
            # Candidates that come after the last one could still tie with the k-th: the lower row must win.
            kth = np.partition(similarity[allowed], -self.k)[-self.k] if allowed.sum() >= self.k else self.floor
            if wanted == len(self.vectors) or last < kth - _ROUNDING:
                return index[allowed], similarity[allowed]
            wanted *= 2
