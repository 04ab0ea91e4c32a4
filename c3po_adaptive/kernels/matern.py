"""The Matérn kernel: a Gaussian with heavier tails and ``nu`` for its smoothness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from pydantic import PositiveFloat

from ._stationary import Stationary
from .base import Array


@dataclass(frozen=True)
class Matern(Stationary):
    """Matérn of order ``nu``; for 1.5 it is (1 + √3 d/l) exp(-√3 d/l), with d the distance and l the length scale.

    Attributes:
        nu: smoothness; 0.5, 1.5 and 2.5 are closed forms, others need a Bessel function and are far slower.
    """

    nu: PositiveFloat = 1.5
    name: ClassVar[str] = "matern"

    def __call__(self, x: Array, y: Array) -> Array:
        from sklearn.gaussian_process import kernels
        from sklearn.metrics.pairwise import check_pairwise_arrays

        x, y = check_pairwise_arrays(x, y)  # unlike the pairwise kernels, this one lets NaN through
        return cast(Array, kernels.Matern(length_scale=self.scale(), nu=self.nu)(x, y))
