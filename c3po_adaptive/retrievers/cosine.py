"""Search by cosine similarity: what every index does around the question which references are near."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.base import Array
from ._vectors import Unit, cosine, excluded_rows, padded, unit
from .base import Hits, Index


@dataclass(frozen=True, eq=False)
class CosineIndex(Index):
    """Vectors are checked and scaled to length one, hits sorted and padded; a subclass says which rows are near.

    Attributes:
        vectors: ``[N, D]`` of length one.
        k: neighbours at most.
    """

    vectors: Unit
    k: int

    @staticmethod
    def scaled(vectors: Array) -> Unit:
        """``vectors [N, D]`` scaled to length one, a copy.

        Raises:
            ShapeError: they are not rows of D numbers.
            DataError: there are none, or a row has no direction.
        """
        return unit(vectors, "references")

    @abstractmethod
    def nearest(
        self, query: Unit, banned: list[int], max_similarity: float, key: int | None
    ) -> tuple[NDArray[np.int64], Unit]:
        """Rows of the references that are near, in any order, and their cosines: ``[n]`` and ``[n]``.

        Args:
            query: ``[D]`` of length one.
            banned: rows that must not be returned.
            max_similarity: rows more similar than this must not be returned, either.
            key: settles what is drawn at random for this query; None: only the query can.
        """

    def allowed(self, query: Unit, banned: list[int], max_similarity: float) -> tuple[NDArray[np.int64], Unit]:
        """All rows that may be returned, and their cosines: what an exact search looks through."""
        similarity = cosine(self.vectors, query)
        rows = np.setdiff1d(np.flatnonzero(similarity <= max_similarity), banned)
        return rows, similarity[rows]

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
        each = zip(scaled, banned, [None] * len(scaled) if keys is None else keys, strict=True)
        return padded([self.nearest(query, rows, max_similarity, key) for query, rows, key in each], self.k)
