"""References drawn by chance: the control for what nearness is worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

import numpy as np

from ..checks import check_number
from ..kernels.base import Array
from .base import Hits, Index, Retriever
from .vectors import Unit, cosine, excluded_rows, padded, unit


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
    ) -> Hits:
        scaled = unit(queries, "queries", self.vectors.shape[1])
        rows = []
        for query, banned in zip(scaled, excluded_rows(exclude, max_similarity, len(scaled)), strict=True):
            similarity = cosine(self.vectors, query)
            allowed = np.setdiff1d(np.flatnonzero(similarity <= max_similarity), banned)
            # Seeded by the query itself: a sample's draw must not depend on the batch it came in.
            key = int.from_bytes(blake2b(query.tobytes(), digest_size=8).digest(), "little")
            drawn = np.random.default_rng([self.seed, key]).permutation(allowed)[: self.k]
            rows.append((drawn, similarity[drawn]))
        return padded(rows, self.k)


@dataclass(frozen=True)
class RandomNeighbours(Retriever):
    """``k`` references drawn uniformly, the same for the same ``seed`` and query, listed nearest first."""

    k: int = 3
    seed: int = 0
    name: ClassVar[str] = "random"

    def __post_init__(self) -> None:
        check_number(self, "k", at_least=1, whole=True)
        check_number(self, "seed", at_least=0, whole=True)

    def fit(self, vectors: Array) -> RandomIndex:
        return RandomIndex(unit(vectors, "references"), self.k, self.seed)
