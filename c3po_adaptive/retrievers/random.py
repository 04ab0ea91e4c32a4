"""References drawn by chance: the control for what nearness is worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

import numpy as np

from ..checks import check_number
from ..kernels.base import Array
from ._vectors import Unit, cosine, excluded_rows, padded, unit
from .base import Hits, Index, Retriever


@dataclass(frozen=True, eq=False)
class RandomIndex(Index):
    """``k`` of ``vectors [N, D]``, each allowed one as likely as any other."""

    vectors: Unit
    k: int
    seed: int

    def search(
        self,
        queries: Array,
        *,
        exclude: Sequence[Collection[int]] | None = None,
        max_similarity: float = 1.0,
        keys: Sequence[int] | None = None,
    ) -> Hits:
        scaled = unit(queries, "queries", self.vectors.shape[1])
        rows = []
        banned_rows = excluded_rows(exclude, max_similarity, len(scaled))
        for key, query, banned in zip(keys or _keys(scaled), scaled, banned_rows, strict=True):
            similarity = cosine(self.vectors, query)
            allowed = np.setdiff1d(np.flatnonzero(similarity <= max_similarity), banned)
            drawn = np.random.default_rng([self.seed, key]).permutation(allowed)[: self.k]
            rows.append((drawn, similarity[drawn]))
        return padded(rows, self.k)


def _keys(queries: Unit) -> list[int]:
    """From the queries themselves, as exact as they can be relied upon."""
    rounded = [(query.round(3) + 0.0).tobytes() for query in queries]  # + 0.0: minus zero becomes zero
    return [int.from_bytes(blake2b(text, digest_size=8).digest(), "little") for text in rounded]


@dataclass(frozen=True)
class RandomNeighbours(Retriever):
    """``k`` references drawn uniformly, the same for the same ``seed`` and key of a query, listed nearest first."""

    k: int = 3
    seed: int = 0
    name: ClassVar[str] = "random"

    def __post_init__(self) -> None:
        check_number(self, "k", at_least=1, whole=True)
        check_number(self, "seed", at_least=0, whole=True)

    def fit(self, vectors: Array) -> RandomIndex:
        return RandomIndex(unit(vectors, "references"), self.k, self.seed)
