"""The references within a radius: many where they are dense, none where a sample is alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from ..kernels.base import Array
from ._faiss_index import ExactIndex
from .base import Retriever


@dataclass(frozen=True)
class FaissRadius(Retriever):
    """The references in the ε-ball: at a cosine distance (1 - similarity) of at most ``epsilon``.

    Attributes:
        epsilon: between 0 (the same direction) and 2 (all).
        limit: at most this many, the nearest: each costs a forward pass per step.
    """

    epsilon: Annotated[float, Field(ge=0, le=2)] = 0.5
    limit: PositiveInt = 16
    name: ClassVar[str] = "faiss-radius"

    @property
    def k(self) -> int:
        """``limit``: how many its control draws at random."""
        return self.limit

    def fit(self, vectors: Array) -> ExactIndex:
        return ExactIndex.build(vectors, self.limit, floor=1.0 - self.epsilon)
