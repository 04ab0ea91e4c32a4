"""Exact search by cosine similarity with FAISS, shared by the k-nearest and the radius retriever."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.base import Array
from ._vectors import Unit, cosine, excluded_rows, padded, unit
from .base import Hits, Index

_ROUNDING = 1e-5  # FAISS sums in single precision: its order is right up to this


@dataclass(frozen=True, eq=False)
class ExactIndex(Index):
    """The ``k`` most similar references that are at least ``floor`` similar.

    Attributes:
        vectors: ``[N, D]`` of length one.
        flat: the FAISS index over them.
    """

    vectors: Unit
    flat: Any
    k: int
    floor: float

    @classmethod
    def build(cls, vectors: Array, k: int, floor: float = -1.0) -> ExactIndex:
        """An index over ``vectors [N, D]`` of any length."""
        import faiss

        scaled = unit(vectors, "references")
        flat = faiss.IndexFlatIP(scaled.shape[1])
        flat.add(scaled)
        return cls(scaled, flat, k, floor)

    def search(
        self,
        queries: Array,
        *,
        exclude: Sequence[Collection[int]] | None = None,
        max_similarity: float = 1.0,
        keys: Sequence[int] | None = None,
    ) -> Hits:
        scaled = unit(queries, "queries", self.vectors.shape[1])
        banned = excluded_rows(exclude, max_similarity, len(scaled))
        return padded([self._nearest(*item, max_similarity) for item in zip(scaled, banned, strict=True)], self.k)

    def _nearest(self, query: Unit, banned: list[int], max_similarity: float) -> Any:
        """Rows and similarities of one query: FAISS ranks candidates, more and more of them until k are allowed."""
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
