"""What a pathway is compared with."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError, suggestion
from ..problem import Problem
from ..routing.mixing import core, mass, placed, with_mass

Baseline = Literal["uniform", "neighbours", "zero"]
"""Even shares of the core experts; the neighbours' mean pathway; or no routed expert at all."""

SLOPE = 1e-3
"""Even shares of a router's distribution fall by so much, relatively, from the highest expert of ω0 to the lowest: the
top-k of equal ones would be arbitrary. So the baseline mixes the model's own experts, as the whole line to ω0 does."""


def baseline_pathway(problem: Problem, baseline: Baseline | float | Tensor, experts: int) -> Tensor:
    """``[B, L, E]``; named ones but ``zero`` have each layer's mass. A number is every expert's weight.

    ``experts``: core experts per layer.

    Raises:
        SettingError: no such name, or a number that no routing weight can be.
        ShapeError: a tensor of another shape, or not finite.
    """
    own = problem.own
    if isinstance(baseline, Tensor):
        if baseline.shape != own.shape or not baseline.isfinite().all():
            what = f"{tuple(baseline.shape)}" if baseline.shape != own.shape else "some that are not finite"
            raise ShapeError(
                f"Expected a finite baseline of shape (B, L, E) = {tuple(own.shape)}, got {what}; "
                f"give one pathway for each sample, or a name: {', '.join(get_args(Baseline))}."
            )
        return baseline.to(own.dtype)
    if isinstance(baseline, Real) and not isinstance(baseline, bool):
        if not 0 <= baseline < math.inf:
            raise SettingError(f"Expected a baseline that is a finite number from 0 on, got {baseline!r}.")
        if baseline and problem.kind == "router":
            raise SettingError(f"Expected uniform, not {baseline!r} for every expert, whose top-k would be arbitrary.")
        return torch.full_like(own, float(baseline))
    if not isinstance(baseline, str):
        raise SettingError(
            f"Expected a baseline by name, as a number or as a tensor, got {type(baseline).__name__}; "
            f"names are {', '.join(get_args(Baseline))}."
        )
    if baseline == "zero":
        return torch.zeros_like(own)
    if baseline == "uniform":
        chosen = core(problem.ranking, experts)
        even = chosen.to(own.dtype)
        if problem.kind == "router":
            rank = problem.ranking.argsort(-1, descending=True).argsort(-1)
            even = even * (1 - SLOPE * rank / own.shape[-1])
        return placed(even, problem.changeable(chosen), own)
    if baseline == "neighbours":
        if not len(problem.reference_pathways):
            raise SettingError("Expected references for the baseline neighbours, got none; pass refset=….")
        mean = (problem.neighbours.weight[:, :, None, None] * problem.neighbour_pathways).sum(1)
        return torch.where(mass(mean) > 0, with_mass(mean, mass(own)), own)
    raise SettingError(f"Expected a baseline, got {baseline!r}; {suggestion(str(baseline), get_args(Baseline))}")
