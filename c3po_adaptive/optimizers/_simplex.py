"""Where a pathway may live: non-negative, of each layer's mass, ω0 but for allowed experts. Shapes ``[..., E]``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingError
from ..problem import Problem
from ..routing.mixing import mass, placed
from ..types import Selection


def project(weights: Tensor, allowed: Tensor, own: Tensor) -> Tensor:
    """The nearest pathway that is ``own`` but for ``allowed`` experts, which keep what ``own`` has on them.

    Euclidean projection onto a scaled simplex by sorting (Duchi et al. 2008, fig. 1).
    """
    total = mass(own * allowed)
    values = weights.masked_fill(~allowed, -torch.inf)
    ranked = values.sort(-1, descending=True).values
    excess = ranked.cumsum(-1) - total
    rank = torch.arange(1, weights.shape[-1] + 1, device=weights.device)
    support = (ranked - excess / rank > 0).sum(-1, keepdim=True).clamp_min(1)
    return torch.where(allowed, (values - excess.gather(-1, support - 1) / support).clamp_min(0), own)


def slope(gradient: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    """``gradient`` on the tangent of the simplex at ``weights``: each layer keeps its mass, and what is zero does not
    fall.

    Projection after a step undoes the rest. Plain steps lose nothing by that, but Adam takes a step of one size for
    each expert: where the signs of those that can move agree, it would not move at all.
    """
    able, floor = allowed, mass(weights) * torch.finfo(weights.dtype).eps  # the projection rounds zeros, too
    while True:
        mean = (gradient * able).sum(-1, keepdim=True) / able.sum(-1, keepdim=True).clamp_min(1)
        stuck = able & (weights <= floor) & (gradient > mean)
        if not stuck.any():
            return (gradient - mean) * able
        able = able & ~stuck


def allowed_experts(problem: Problem) -> Tensor:
    """``[B, L, E]`` bool: in selected layers, the experts that may change (``Problem.changeable``)."""
    selection = selection_of(problem)
    return problem.changeable(selection.mask) & selection.layers.unsqueeze(-1)


def selection_of(problem: Problem) -> Selection:
    """What may be re-mixed.

    Raises:
        SettingError: nothing was chosen yet.
    """
    if problem.selection is None:
        raise SettingError("Expected a problem with a selection, got none; call a LayerSelector first.")
    return problem.selection


def toward(problem: Problem, goal: Tensor) -> Tensor:
    """``goal [B, L, E]`` on the allowed experts, at the mass that ω0 has there; ω0 where nothing is left of it."""
    return placed(goal, allowed_experts(problem), problem.own)


def has_neighbours(problem: Problem) -> Tensor:
    """``[B]`` bool."""
    return problem.neighbours.weight.sum(-1) > 0
