"""References drawn by chance: the control for what nearness is worth."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from ..kernels.base import Array
from .base import Retriever
from .cosine import CosineIndex, Unit


@dataclass(frozen=True, eq=False)
class RandomIndex(CosineIndex):
    """``k`` of ``vectors [N, D]``, each allowed one as likely as any other."""

    seed: int

    def nearest(self, query: Unit, banned: list[int], max_similarity: float, key: int | None) -> Any:
        rows, similarity = self.allowed(query, banned, max_similarity)
        order = np.random.default_rng([self.seed, _key(query) if key is None else key]).permutation(len(rows))[: self.k]
        return rows[order], similarity[order]


def _key(query: Unit) -> int:
    """From the query itself, as exact as it can be relied upon."""
    rounded = (query.round(3) + 0.0).tobytes()  # + 0.0: minus zero becomes zero
    return int.from_bytes(blake2b(rounded, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class RandomNeighbours(Retriever):
    """``k`` references drawn uniformly, the same for the same ``seed`` and key of a query, listed nearest first."""

    k: PositiveInt = 3
    seed: NonNegativeInt = 0
    name: ClassVar[str] = "random"
    varies: ClassVar[str] = "random neighbours"

    def fit(self, vectors: Array) -> RandomIndex:
        return RandomIndex(RandomIndex.scaled(vectors), self.k, self.seed)
