"""By how much a step in each layer would lower a loss, to first order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from ..attribution.function import PathwayFunction
from ..optimizers._reference_artifacts import GRADIENT
from ..optimizers._simplex import slope
from ..problem import Problem
from ..routing.mixing import core
from ..types import Attributable, Selection
from .fixed import check_layers
from .scored import ScoredLayers


@dataclass(frozen=True, kw_only=True)
class Gradient(ScoredLayers):
    """The layers where a step of one length would lower the loss most (or raise the margin, so that the sample becomes
    surer, as with a lower entropy): one forward pass and one backward pass per sample.

    The score is the length of the gradient on the tangent of the simplex, that is after what the constraints undo is
    taken off (each layer keeps its mass, weights of zero do not fall, only core experts move): the decrease of the
    loss, to first order, for each unit that the layer's weights move.

    Attributes:
        of: whose loss.
        within_last: only the last so many MoE layers are looked at, for a shorter tail; None: all.
    """

    of: Attributable = "neighbours"
    within_last: PositiveInt | None = None
    name: ClassVar[str] = "gradient"

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most selectors
        return self.of == "neighbours"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        looked_at = eligible_experts(problem, self.within_last, self.core_size(problem))
        function = PathwayFunction(problem.within(Selection(looked_at)), self.of)
        weights = problem.own.clone().requires_grad_()
        with torch.enable_grad():
            values = function(weights, torch.arange(len(weights)))
            (gradient,) = torch.autograd.grad(values.sum(), weights)
        return steepness(problem, -gradient if self.of == "margin" else gradient, looked_at)


@dataclass(frozen=True, kw_only=True)
class Amortized(ScoredLayers):
    """Layers where the neighbours' own gradients, each computed once at its own pathway, point down most steeply.

    In place of the gradient at the question's ω it takes Σ K_i g_i, as ``amortized-ngd`` does: no tail pass per
    question.
    """

    name: ClassVar[str] = "amortized"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        weight = problem.neighbours.weight[:, :, None, None]
        gradient = (weight * problem.of_neighbours(GRADIENT)).sum(1)
        return steepness(problem, gradient, eligible_experts(problem, None, self.core_size(problem)))


def eligible_experts(problem: Problem, last: int | None, experts: int) -> Tensor:
    """``[B, L, E]`` bool: the core experts of the last so many layers; None: of all."""
    count = len(problem.layers)
    rows = torch.arange(count) >= count - check_layers(count if last is None else last, problem.layers)
    return core(problem.ranking, experts) & rows[:, None]


def steepness(problem: Problem, gradient: Tensor, looked_at: Tensor) -> tuple[Tensor, Tensor]:
    """Length of ``gradient [B, L, E]`` on the tangent of the simplex, by layer ``[B, L]``, and of each expert."""
    able = problem.changeable(looked_at) & looked_at.any(-1, keepdim=True)
    along = slope(gradient, problem.own, able)
    return along.norm(dim=-1), along.abs()
