"""Experts and routers rounded to four bits, and written back: what a checkpoint in INT4 computes with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .bed import layers_of

GROUP = 32  # neighbouring numbers that share a scale


@torch.no_grad()
def quantized(model: Any) -> Any:
    """The model with them rounded, symmetrically, to the nearest of fifteen values of each group."""
    for layer in layers_of(model):
        block = model.model.layers[layer].mlp
        for weight in (block.gate.weight, block.experts.gate_up_proj, block.experts.down_proj):
            weight.copy_(rounded(weight))
    return model


def rounded(weight: Tensor, group: int = GROUP) -> Tensor:
    """``[..., D]`` rounded along its last dimension; one that no group divides is a group."""
    size = group if weight.shape[-1] % group == 0 else weight.shape[-1]
    parts = weight.unflatten(-1, (-1, size))
    scale = parts.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7
    return ((parts / scale).round().clamp(-7, 7) * scale).flatten(-2)
