"""The kernel role: how much a neighbour counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Seen:
    """Questions as a kernel or a retriever may see them.

    Attributes:
        text: ``[N, D]`` their embeddings.
        known: what the model knows of them before it answers, by part: ``state [N, H]``, ``pathway [N, L·E]`` and
            ``form [N, 5]``; empty where nothing asks for it.
    """

    text: Array
    known: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lessons:
    """References to learn from what helps what.

    Attributes:
        known: of each, as in ``Seen``.
        gradients: ``[N, L, E]`` of each reference's own loss at its own pathway, on the tangent of the simplex.
    """

    known: Mapping[str, Array]
    gradients: Array


class Kernel(ABC):
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

    def prepare(self, references: Array) -> Self:
        """A kernel whose data-dependent parameters are settled on the references ``[N, D]``; the same by default."""
        return self

    def learn(self, lessons: Lessons) -> Self:
        """A kernel that learned which references help which; the same by default."""
        return self

    def between(self, x: Seen, y: Seen) -> Array:
        """``[n, m]`` values of questions, all that may be seen of them; by default those of their embeddings."""
        return self(x.text, y.text)

    def __add__(self, other: Kernel) -> Kernel:
        return Sum(self, other)

    def __mul__(self, other: Kernel) -> Kernel:
        return Product(self, other)


@dataclass(frozen=True)
class Sum(Kernel):
    """The pointwise sum of two kernels, a kernel again."""

    left: Kernel
    right: Kernel
    name: ClassVar[str] = "sum"

    def __call__(self, x: Array, y: Array) -> Array:
        return self.left(x, y) + self.right(x, y)

    def prepare(self, references: Array) -> Kernel:  # type: ignore[override]
        return Sum(self.left.prepare(references), self.right.prepare(references))

    @property
    def learns(self) -> bool:  # type: ignore[override]  # a constant of most kernels
        return self.left.learns or self.right.learns

    def learn(self, lessons: Lessons) -> Kernel:  # type: ignore[override]
        return Sum(self.left.learn(lessons), self.right.learn(lessons))

    def between(self, x: Seen, y: Seen) -> Array:
        return self.left.between(x, y) + self.right.between(x, y)


@dataclass(frozen=True)
class Product(Kernel):
    """The pointwise product of two kernels, a kernel again (Schur)."""

    left: Kernel
    right: Kernel
    name: ClassVar[str] = "product"

    def __call__(self, x: Array, y: Array) -> Array:
        return self.left(x, y) * self.right(x, y)

    def prepare(self, references: Array) -> Kernel:  # type: ignore[override]
        return Product(self.left.prepare(references), self.right.prepare(references))

    @property
    def learns(self) -> bool:  # type: ignore[override]  # a constant of most kernels
        return self.left.learns or self.right.learns

    def learn(self, lessons: Lessons) -> Kernel:  # type: ignore[override]
        return Product(self.left.learn(lessons), self.right.learn(lessons))

    def between(self, x: Seen, y: Seen) -> Array:
        return self.left.between(x, y) * self.right.between(x, y)
