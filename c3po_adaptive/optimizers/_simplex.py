"""Where routing weights may live: non-negative, of each layer's mass, only allowed experts. Shapes ``[..., E]``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import SettingError
from ..problem import Problem
from ..routing.mixing import mass, with_mass
from ..types import Selection


def project(weights: Tensor, allowed: Tensor, total: Tensor) -> Tensor:
    """The nearest point with non-negative weights on ``allowed`` experts that sum to ``total [..., 1]``.

    Euclidean projection onto a scaled simplex by sorting (Duchi et al. 2008, fig. 1).
    """
    values = weights.masked_fill(~allowed, -torch.inf)
    ranked = values.sort(-1, descending=True).values
    excess = ranked.cumsum(-1) - total
    rank = torch.arange(1, weights.shape[-1] + 1, device=weights.device)
    support = (ranked - excess / rank > 0).sum(-1, keepdim=True).clamp_min(1)
    return (values - excess.gather(-1, support - 1) / support).clamp_min(0)


def slope(gradient: Tensor, weights: Tensor, allowed: Tensor, total: Tensor) -> Tensor:
    """``gradient`` on the tangent of the simplex at ``weights``: each layer keeps its mass ``total [..., 1]``, and what
    is zero does not fall.

    Projection after a step undoes the rest. Plain steps lose nothing by that, but Adam takes a step of one size for
    each expert: where the signs of those that can move agree, it would not move at all.
    """
    able, floor = allowed, total * torch.finfo(weights.dtype).eps  # the projection rounds zeros, too
    while True:
        mean = (gradient * able).sum(-1, keepdim=True) / able.sum(-1, keepdim=True).clamp_min(1)
        stuck = able & (weights <= floor) & (gradient > mean)
        if not stuck.any():
            return (gradient - mean) * able
        able = able & ~stuck


def allowed_experts(problem: Problem) -> Tensor:
    """``[B, L, E]`` bool: in selected layers, the selected experts and those that the model used itself."""
    selection = selection_of(problem)
    return (selection.mask | (problem.own > 0)) & selection.layers.unsqueeze(-1)


def selection_of(problem: Problem) -> Selection:
    """What may be re-mixed.

    Raises:
        SettingError: nothing was chosen yet.
    """
    if problem.selection is None:
        raise SettingError("Expected a problem with a selection, got none; call a LayerSelector first.")
    return problem.selection


def toward(problem: Problem, goal: Tensor) -> Tensor:
    """``goal [B, L, E]`` cut to the allowed experts, at each layer's mass; ω0 where nothing is left of it."""
    cut = goal * allowed_experts(problem)
    return torch.where(mass(cut) > 0, with_mass(cut, mass(problem.own)), problem.own)


def has_neighbours(problem: Problem) -> Tensor:
    """``[B]`` bool."""
    return problem.neighbours.weight.sum(-1) > 0
