"""Neighbourhood gradient descent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor

from ..problem import Problem
from .base import PathwayOptimizer
from .descent import Parametrisation, Step, check_descent, descend
from .simplex import has_neighbours


@dataclass(frozen=True)
class NGD(PathwayOptimizer):
    """Descend the neighbours' kernel-weighted loss with the sample's ω put into their forward passes.

    C3PO (Li, Li and Zhou 2025, arXiv 2504.07964), neighbourhood gradient descent: ω ← ω − λ ∇ L(ω), λ by cosine from
    1e-2 to 1e-5 in 10 steps. The paper does not say how ω stays a valid routing: here by projection, or as logits, by
    name.
    """

    steps: int = 10
    lr: float = 1e-2
    lr_end: float = 1e-5
    step: Step = "adam"
    parametrisation: Parametrisation = "projection"
    tolerance: float = 0.0
    name: ClassVar[str] = "ngd"

    def __post_init__(self) -> None:
        check_descent(**asdict(self))

    def optimize(self, problem: Problem) -> Tensor:
        return descend(problem.loss, problem, **asdict(self), eligible=has_neighbours(problem))
