"""The retriever role: which references are neighbours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._printed import in_brief
from ..checks import Checked
from ..kernels.base import Array, QuestionFeatures, ReferenceFeatures


@dataclass(frozen=True)
class Hits:
    """Neighbours of each query, nearest first, short rows padded with -1: ``index [B, K]``, ``similarity [B, K]``."""

    index: NDArray[np.int64]
    similarity: Array
    __repr__ = in_brief


class Index(ABC):
    """A retriever fitted to vectors ``[N, D]``; built by ``Retriever.fit``."""

    @abstractmethod
    def search(
        self,
        queries: Array,
        *,
        exclude: Sequence[Collection[int]] | None = None,
        max_similarity: float = 1.0,
        keys: Sequence[int] | None = None,
    ) -> Hits:
        """Neighbours of ``queries [B, D]`` by cosine similarity.

        Args:
            queries: ``[B, D]`` of any length but zero.
            exclude: for each query, rows that must not be returned (the query itself, when it is a reference).
            max_similarity: rows more similar than this are left out: the contamination filter (C3PO uses 0.95).
            keys: a number for each query that settles what is drawn for it. The query itself cannot: its last bits
                differ with the texts that it was embedded with.
        """


class Retriever(Checked, ABC):
    """Finds neighbours; subclasses are frozen dataclasses with a ``name`` and how many (or how near) as a field.

    Its control with as many random neighbours takes that from ``k``, a field or a property; without one there is none.

    Attributes:
        learns: True for one that is learned from references, and may look at more than the texts' embeddings.
        varies: what it leaves to chance, in words, where others choose or learn; "": nothing. It is a control by that.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = False
    varies: ClassVar[str] = ""

    def prepare(self, references: ReferenceFeatures) -> Self:
        """A retriever that learned from references what it has to; the same by default."""
        return self

    def sees(self, questions: QuestionFeatures) -> Array:
        """``[N, D]`` what it is fitted to and searched by; by default the embeddings."""
        return questions.text

    @abstractmethod
    def fit(self, vectors: Array) -> Index:
        """An index over ``vectors [N, D]``, in embedding space or, for mode finding, in pathway space."""

    def fit_kept(self, vectors: Array, folder: Path) -> Index:
        """The same, stored in a folder for the next time where building takes long. Here: built anew."""
        return self.fit(vectors)
