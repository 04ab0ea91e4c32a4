"""One step as far as neighbours agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_number
from ..problem import Problem
from ..routing.mixing import mass
from ._agreement import TINY, Agreement
from ._reference_artifacts import GRADIENT
from ._simplex import allowed_experts, project
from .base import PathwayOptimizer


@dataclass(frozen=True)
class Shrunken(PathwayOptimizer):
    """A step along the neighbours' mean kept gradient, shorter the less they agree: no pass per question.

    Adam takes a step of one size in each coordinate, noise or not. Here each coordinate m_e of the mean gradient is
    shrunk by its own noise v_e, to (1 − v_e / m_e²)₊ m_e (positive-part James and Stein 1961), and a layer's step is

        Δω = −radius · mass · (U − sure · s)₊ / ‖m‖² · d / ‖d‖,

    with d the shrunken gradient, U what the neighbours have in common and s its standard error (``Agreement``): the
    share of the squared length that is no noise, less what it may owe to chance. A layer that neighbours agree on
    nothing in is left alone.

    Attributes:
        radius: length of the longest step, in a layer's mass (the sum of its routing weights).
        sure: standard errors that are taken off.
    """

    radius: float = 1.0
    sure: float = 1.64
    name: ClassVar[str] = "shrunken"

    def __post_init__(self) -> None:
        check_number(self, "radius", at_least=0)
        check_number(self, "sure", at_least=0)

    def optimize(self, problem: Problem) -> Tensor:
        allowed, total = allowed_experts(problem), mass(problem.own)
        agreement = Agreement.of(problem.of_neighbours(GRADIENT), problem.neighbours.weight, allowed)
        step = self.radius * total * share(agreement, self.sure)[..., None] * direction(agreement)
        moved = project(problem.own - step, allowed, total)
        return torch.where(step.any(-1, keepdim=True), moved, problem.own)


def share(agreement: Agreement, sure: float) -> Tensor:
    """``[B, L]`` of the squared length of the mean gradient, the share that neighbours have in common for sure."""
    common = (agreement.common - sure * agreement.error).clamp_min(0)
    return common / agreement.mean.square().sum(-1).clamp_min(TINY)


def direction(agreement: Agreement) -> Tensor:
    """``[B, L, E]`` of length one: the mean gradient, each coordinate shrunk by its own noise; zero if all is noise."""
    mean = agreement.mean
    kept = (1 - agreement.noise / mean.square().clamp_min(TINY)).clamp_min(0) * mean
    length: Tensor = kept.norm(dim=-1, keepdim=True)
    return kept / length.clamp_min(TINY)
