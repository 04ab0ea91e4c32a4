"""Exact search by cosine similarity with FAISS, shared by the k-nearest and the radius retriever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def nearest(
        self, query: Unit, banned: list[int], max_similarity: float, key: int | None
    ) -> tuple[NDArray[np.int64], Unit]:
        """FAISS finds the k-th best of the allowed rows, then all that may tie with it; double precision ranks them."""
        alike = self._within(query, max_similarity - _ROUNDING, banned)
        without = [*banned, *alike[cosine(self.vectors[alike], query) > max_similarity].tolist()]
        ranked, _ = self.flat.search(query[None], min(self.k, len(self.vectors)), params=_but(without))
        rows = self._within(query, max(float(ranked[0, -1]), self.floor) - 2 * _ROUNDING, without)
        similarity = cosine(self.vectors[rows], query)
        return rows[similarity >= self.floor], similarity[similarity >= self.floor]

    def _within(self, query: Unit, least: float, banned: list[int]) -> NDArray[np.int64]:
        """Rows but those that are banned whose similarity is at least so much."""
        _, _, rows = self.flat.range_search(query[None], least, params=_but(banned))
        return np.asarray(rows)


def _but(rows: list[int]) -> Any:
    """Lets FAISS pass over rows."""
    import faiss

    selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(np.array(rows, np.int64)))
    return faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # which FAISS has, and its stubs have not
