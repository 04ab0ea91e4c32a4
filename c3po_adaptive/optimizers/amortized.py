"""Neighbourhood gradient descent with the gradients computed before the question came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat
from torch import Tensor

from ..problem import Problem
from ._reference_artifacts import GRADIENT, change_by
from ._simplex import allowed_experts, has_neighbours, project
from .descent import Descent


@dataclass(frozen=True)
class AmortizedNGD(Descent):
    """NGD's steps on a model of the neighbours' loss that needs no forward pass: one weighted sum per question.

    Each reference i has, once, the gradient g_i of its own loss at its own pathway ω_i. NGD (arXiv 2504.07964) takes
    the gradient at the question's ω in each neighbour's forward pass; here it is Σ K_i g_i all along, so the loss is
    linear, or bends by a diagonal curvature. Or each reference descends its own loss once, by the same steps, and lends
    the change of its pathway, as the memory of kNN-MoE (arXiv 2601.02144) does: ω = ω0 + s Σ K_i (ω*_i − ω_i), where s
    is the neighbours' mean similarity.

    Attributes:
        variant: ``linear``; ``diagonal``: with the empirical Fisher Σ K_i g_i² as curvature; or ``pathway``.
        damping: what the curvature of ``diagonal`` is multiplied by.
    """

    variant: Literal["linear", "diagonal", "pathway"] = "linear"
    damping: NonNegativeFloat = 1.0
    name: ClassVar[str] = "amortized-ngd"

    def optimize(self, problem: Problem) -> Tensor:
        eligible = has_neighbours(problem)
        if self.steps == 0 or not eligible.any():
            return problem.own
        if self.variant == "pathway":
            return self._lent(problem, eligible)
        weight, each = problem.neighbours.weight[:, :, None, None], problem.of_neighbours(GRADIENT)
        slope = (weight * each).sum(1)
        bend = self.damping * (weight * each.square()).sum(1) if self.variant == "diagonal" else 0.0

        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            step = weights - problem.own
            return (slope * step + 0.5 * bend * step.square()).sum((1, 2))

        return self.descend(loss, problem)

    def _lent(self, problem: Problem, eligible: Tensor) -> Tensor:
        weight = problem.neighbours.weight
        share = (weight * problem.neighbours.similarity).sum(-1).clamp(0, 1)[:, None, None]
        change = (weight[:, :, None, None] * problem.of_neighbours(change_by(self))).sum(1)
        allowed = allowed_experts(problem) & eligible[:, None, None]
        return project(problem.own + share * change, allowed, problem.own)
