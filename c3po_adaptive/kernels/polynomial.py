"""The polynomial kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from .base import Array, Kernel


@dataclass(frozen=True)
class Polynomial(Kernel):
    """(gamma x·y + coef0)^degree; the bounds on its parameters keep it positive semi-definite."""

    degree: PositiveInt = 2
    coef0: NonNegativeFloat = 1.0
    gamma: PositiveFloat = 1.0
    name: ClassVar[str] = "polynomial"

    def __call__(self, x: Array, y: Array) -> Array:
        from sklearn.metrics.pairwise import polynomial_kernel

        return cast(Array, polynomial_kernel(x, y, degree=self.degree, gamma=self.gamma, coef0=self.coef0))
