"""Search by cosine similarity: what every index does around the question which references are near."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SettingError, ShapeError
from ..kernels.base import Array
from .base import Hits, Index

Unit = NDArray[np.float32]
BLOCK = 65536


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
        return _unit(vectors, "references")

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
        scaled = _unit(queries, "queries", self.vectors.shape[1])
        banned = _excluded_rows(exclude, max_similarity, len(scaled))
        each = zip(scaled, banned, [None] * len(scaled) if keys is None else keys, strict=True)
        return _padded([self.nearest(query, rows, max_similarity, key) for query, rows, key in each], self.k)


def _unit(vectors: Array, what: str, dimension: int | None = None) -> Unit:
    """``vectors [n, D]`` scaled to length one, a copy.

    Args:
        vectors: ``[n, D]`` of any length but zero.
        what: "references" or "queries", for the messages.
        dimension: D, where it is settled already.

    Raises:
        ShapeError: if they are not rows of D numbers.
        DataError: if there are none, or a row has no direction.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or (dimension is not None and rows.shape[1] != dimension):
        raise ShapeError(
            f"Expected {what} of shape (n, {'D' if dimension is None else dimension}), got {rows.shape}; "
            "pass one row per vector, all from the embedder that the references were embedded with."
        )
    if not rows.size:
        raise DataError(f"Expected {what} of at least one vector, got shape {rows.shape}; check what was embedded.")
    scaled, length = np.empty(rows.shape, np.float32), np.empty(len(rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in range(0, len(rows), BLOCK):  # in double precision, which a million at once would not fit
            part = rows[i : i + BLOCK].astype(np.float64)
            length[i : i + BLOCK] = np.linalg.norm(part, axis=1)
            scaled[i : i + BLOCK] = part / length[i : i + BLOCK, None]
    if bad := np.flatnonzero(~(np.isfinite(length) & (length > 0))).tolist():
        raise DataError(
            f"Expected finite, non-zero {what}, got NaN, infinity or a zero vector in {len(bad)} of {len(rows)} rows "
            f"(first: row {bad[0]}); cosine similarity needs a direction, so drop or re-embed these rows."
        )
    return scaled


def cosine(candidates: Unit, query: Unit) -> Unit:
    """``[..., n]`` similarity of ``candidates [..., n, D]`` with ``query [..., D]``.

    Summed row by row in double precision: the same whatever else is in the batch, and 1 for a vector with itself.
    """
    rows, one = candidates.astype(np.float64), query.astype(np.float64)[..., None, :]
    lengths = np.linalg.norm(rows, axis=-1) * np.linalg.norm(one, axis=-1)
    similarity: Unit = np.clip((rows * one).sum(-1) / lengths, -1.0, 1.0).astype(np.float32)
    return similarity


def _excluded_rows(exclude: Sequence[Collection[int]] | None, max_similarity: float, count: int) -> list[list[int]]:
    """The rows that each of ``count`` queries must not get.

    Raises:
        ShapeError: unless there is one collection per query.
        SettingError: if the filter is no similarity.
    """
    if not -1.0 <= max_similarity <= 1.0:
        raise SettingError(
            f"Expected max_similarity between -1 and 1 (a cosine), got {max_similarity!r}; "
            "use 0.95 to drop near-duplicates, or 1.0 to keep all."
        )
    if exclude is None:
        return [[]] * count
    if len(exclude) != count:
        raise ShapeError(
            f"Expected exclude to hold one collection for each of {count} queries, got {len(exclude)}; "
            "use an empty one for a query that excludes nothing."
        )
    return [list(rows) for rows in exclude]


def _padded(rows: Sequence[tuple[NDArray[np.int64], Unit]], k: int) -> Hits:
    """The hits of each query, sorted by similarity, then row, and padded with -1 to a width of ``k``."""
    index = np.full((len(rows), k), -1, dtype=np.int64)
    similarity = np.zeros((len(rows), k), dtype=np.float32)
    for i, (found, values) in enumerate(rows):
        order = np.lexsort((found, -values))[:k]
        index[i, : len(order)], similarity[i, : len(order)] = found[order], values[order]
    return Hits(index, similarity)
