"""The gradient selector with gradients that were computed before the question came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..optimizers._reference_artifacts import GRADIENT
from ..problem import Problem
from .gradient import eligible_experts, steepness
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class Amortized(Scored):
    """Layers where the neighbours' own gradients, each computed once at its own pathway, point down most steeply.

    In place of the gradient at the question's ω it takes Σ K_i g_i, as ``amortized-ngd`` does: no tail pass per
    question.
    """

    name: ClassVar[str] = "amortized"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        weight = problem.neighbours.weight[:, :, None, None]
        gradient = (weight * problem.of_neighbours(GRADIENT)).sum(1)
        return steepness(problem, gradient, eligible_experts(problem, None, self.core_size(problem)))
