"""The linear kernel: the similarity itself, so far neighbours count almost as much as near ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from .base import Array, Kernel


@dataclass(frozen=True)
class Linear(Kernel):
    """x·y; the cosine similarity of unit vectors, and negative beyond a right angle."""

    name: ClassVar[str] = "linear"

    def __call__(self, x: Array, y: Array) -> Array:
        from sklearn.metrics.pairwise import linear_kernel

        return cast(Array, linear_kernel(x, y))
