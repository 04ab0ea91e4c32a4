"""The kernel role: how much a neighbour counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Kernel(ABC):
    """A positive semi-definite similarity of vectors; subclasses are frozen dataclasses with a ``name``."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, x: Array, y: Array) -> Array:
        """``[n, m]`` kernel values of ``x [n, D]`` and ``y [m, D]``."""

    def prepare(self, references: Array) -> Self:
        """A kernel whose data-dependent parameters are settled on the references ``[N, D]``; the same by default."""
        return self

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
