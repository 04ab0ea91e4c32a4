"""The gradient selector with gradients that were computed before the question came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..problem import Problem
from .gradient import candidates, steepness
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class Amortised(Scored):
    """Layers where the neighbours' own gradients, each computed once at its own pathway, point down most steeply.

    In place of the gradient at the question's ω it takes Σ K_i g_i, as ``amortised-ngd`` does: no tail pass a question.
    """

    name: ClassVar[str] = "amortised"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        weight = problem.neighbours.weight[:, :, None, None]
        gradient = (weight * problem.neighbour_gradients()).sum(1)
        return steepness(problem, gradient, candidates(problem, None, self.core_size(problem)))
