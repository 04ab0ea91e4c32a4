"""The k nearest references, the paper's default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveInt

from ..kernels.base import Array
from ._faiss_index import ExactIndex
from .base import Retriever


@dataclass(frozen=True)
class FaissKNN(Retriever):
    """The ``k`` references of the highest cosine similarity, exactly."""

    k: PositiveInt = 3
    name: ClassVar[str] = "faiss-knn"

    def fit(self, vectors: Array) -> ExactIndex:
        return ExactIndex.build(vectors, self.k)
