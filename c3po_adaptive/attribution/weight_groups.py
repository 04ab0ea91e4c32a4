"""Which routing weights are taken away together, where a method takes weights away."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..problem import Problem

Groups = Literal["layer", "expert"]
"""A layer's weights together; or each core expert of each layer alone, and what is left of the layer together."""


def grouped(problem: Problem, groups: Groups, experts: int) -> Tensor:
    """``[B, L, E]`` the number of each weight's group, from zero on; the same number of groups for every sample."""
    b, layers, count = problem.own.shape
    layer = torch.arange(layers)[None, :, None]
    if groups == "layer":
        return layer.expand(b, layers, count).contiguous()  # as Captum's Shapley values need it
    rank = problem.ranking.argsort(-1, descending=True).argsort(-1).clamp(max=experts)
    number = min(experts + 1, count)
    return layer * number + rank.clamp(max=number - 1)


def how_many(groups: Groups, layers: int, count: int, experts: int) -> int:
    """Groups of ``layers`` layers of ``count`` experts each, ``experts`` of them core."""
    return layers if groups == "layer" else layers * min(experts + 1, count)


def shared(effect: Tensor, groups: Tensor) -> Tensor:
    """``[B, L, E]`` each group's effect, which stands at all its weights, spread evenly over them."""
    size = torch.zeros(len(groups), int(groups.max()) + 1).scatter_add(
        1, groups.flatten(1), torch.ones_like(effect).flatten(1)
    )
    return effect / size.gather(1, groups.flatten(1)).view_as(effect)
