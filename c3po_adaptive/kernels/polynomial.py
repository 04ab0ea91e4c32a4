"""The polynomial kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from ..checks import check_number
from .base import Array, Kernel


@dataclass(frozen=True)
class Polynomial(Kernel):
    """(gamma x·y + coef0)^degree; the bounds on its parameters keep it positive semi-definite."""

    degree: int = 2
    coef0: float = 1.0
    gamma: float = 1.0
    name: ClassVar[str] = "polynomial"

    def __post_init__(self) -> None:
        check_number(self, "degree", at_least=1, whole=True)
        check_number(self, "coef0", at_least=0)
        check_number(self, "gamma", above=0)

    def __call__(self, x: Array, y: Array) -> Array:
        from sklearn.metrics.pairwise import polynomial_kernel

        return cast(Array, polynomial_kernel(x, y, degree=self.degree, gamma=self.gamma, coef0=self.coef0))
