"""Where the question goes another way than its neighbours, who agree among themselves: no gradient, no pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..problem import Problem
from ..routing.mixing import mass
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class Disagreement(Scored):
    """Layers where the own pathway is far from the neighbours', weighed by how much these agree.

    With p and p_i the routing weights of a layer as distributions and p̄ = Σ K_i p_i, the score is
    d(p, p̄) (1 − Σ K_i d(p_i, p̄)), where d is the total variation distance (0 to 1). An expert's score is its part of
    d(p, p̄).
    """

    name: ClassVar[str] = "disagreement"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        weight = problem.neighbours.weight[:, :, None, None]
        own, near = _distribution(problem.own), _distribution(problem.neighbour_pathways)
        mean = (weight * near).sum(1)
        found = weight.flatten(1).sum(1)[:, None] > 0  # without neighbours nobody disagrees
        apart = 0.5 * (own - mean).abs() * found.unsqueeze(-1)
        return apart.sum(-1) * agreement(problem), apart


def agreement(problem: Problem) -> Tensor:
    """``[B, L]`` 1 − Σ K_i d(p_i, p̄): how much the neighbours' pathways agree, 0 without any."""
    weight = problem.neighbours.weight[:, :, None, None]
    near = _distribution(problem.neighbour_pathways)
    among = 0.5 * (weight * (near - (weight * near).sum(1, keepdim=True)).abs()).sum((1, -1))
    return (1 - among).clamp_min(0) * (problem.neighbours.weight.sum(-1) > 0).unsqueeze(-1)


def _distribution(weights: Tensor) -> Tensor:
    """Rows ``[..., E]`` that sum to one, or are zero."""
    return weights / mass(weights).clamp_min(1e-12)
