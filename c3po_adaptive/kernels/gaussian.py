"""The Gaussian kernel, the paper's best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from ._stationary import Stationary
from .base import Array


@dataclass(frozen=True)
class Gaussian(Stationary):
    """exp(−‖x − y‖² / 2l²), with l the length scale."""

    name: ClassVar[str] = "gaussian"

    def __call__(self, x: Array, y: Array) -> Array:
        from sklearn.metrics.pairwise import rbf_kernel

        return cast(Array, rbf_kernel(x, y, gamma=0.5 / self.scale() ** 2))
