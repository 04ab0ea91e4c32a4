"""The kernel role: how much a neighbour counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._printed import in_brief
from ..checks import Checked

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class QuestionFeatures:
    """What a kernel or a retriever may look at of N questions.

    Attributes:
        text: ``[N, D]`` their embeddings.
        known: what the model knows of them before it answers, by part: ``state [N, H]``, ``pathway [N, L·E]`` and
            ``form [N, 5]``; empty where nothing asks for it.
    """

    text: Array
    known: Mapping[str, Array] = field(default_factory=dict)
    __repr__ = in_brief


@dataclass(frozen=True, eq=False)
class ReferenceFeatures:
    """What a kernel or a retriever is prepared on.

    Attributes:
        text: ``[N, D]`` embeddings of the references that may be neighbours, or other vectors that are compared.
        known: of the M references that may be learned from, as in ``QuestionFeatures``; empty for a strategy that does
            not say ``learns``.
        gradients: ``[M, L, E]`` of each one's own loss at its own pathway, on the tangent of the simplex.
    """

    text: Array
    known: Mapping[str, Array] = field(default_factory=dict)
    gradients: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    __repr__ = in_brief

    def seen_by(self, strategy: Any) -> ReferenceFeatures:
        """Texts alone for a kernel or a retriever that does not learn, whatever another beside it does."""
        return self if strategy.learns else ReferenceFeatures(self.text)


class Kernel(Checked, ABC):
    """A positive semi-definite similarity of vectors; subclasses are frozen dataclasses with a ``name``.

    Attributes:
        learns: True for one that is learned from references, and may look at more than the texts' embeddings.
        varies: what it leaves to chance, in words, where others choose or learn; "": nothing. It is a control by that.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = False
    varies: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, x: Array, y: Array) -> Array:
        """``[n, m]`` kernel values of ``x [n, D]`` and ``y [m, D]``."""

    def prepare(self, references: ReferenceFeatures) -> Self:
        """A kernel whose data-dependent parameters are settled on the references, and which has learned from them what
        it has to; the same by default.
        """
        return self

    def between(self, x: QuestionFeatures, y: QuestionFeatures) -> Array:
        """``[n, m]`` values of questions, all that may be seen of them; by default those of their embeddings."""
        return self(x.text, y.text)

    def shares(self, values: Array) -> Array:
        """``[m]`` the weights of one question's neighbours, which sum to one, of their values ``[m]``, none below zero;
        zeros where all of them are. By default each value's share of their sum.
        """
        total = values.sum()
        shares: Array = values / total if total > 0 else np.zeros_like(values)
        return shares

    def __add__(self, other: Kernel) -> Kernel:
        return Sum(self, other)

    def __mul__(self, other: Kernel) -> Kernel:
        return Product(self, other)


@dataclass(frozen=True)
class Composite(Kernel):
    """Two kernels together."""

    left: Kernel
    right: Kernel

    @property
    def learns(self) -> bool:  # type: ignore[override]  # a constant of most kernels
        return self.left.learns or self.right.learns

    def prepare(self, references: ReferenceFeatures) -> Self:
        return replace(
            self,
            left=self.left.prepare(references.seen_by(self.left)),
            right=self.right.prepare(references.seen_by(self.right)),
        )


@dataclass(frozen=True)
class Sum(Composite):
    """The pointwise sum of two kernels, a kernel again."""

    name: ClassVar[str] = "sum"

    def __call__(self, x: Array, y: Array) -> Array:
        return self.left(x, y) + self.right(x, y)

    def between(self, x: QuestionFeatures, y: QuestionFeatures) -> Array:
        return self.left.between(x, y) + self.right.between(x, y)


@dataclass(frozen=True)
class Product(Composite):
    """The pointwise product of two kernels, a kernel again (Schur)."""

    name: ClassVar[str] = "product"

    def __call__(self, x: Array, y: Array) -> Array:
        return self.left(x, y) * self.right(x, y)

    def between(self, x: QuestionFeatures, y: QuestionFeatures) -> Array:
        return self.left.between(x, y) * self.right.between(x, y)
