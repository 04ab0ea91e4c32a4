"""Experts pruned by REAP's saliency (arXiv 2510.13999): the mean, over the tokens that are routed to an expert, of its
weight times the norm of its output. The router keeps the rows of those that stay, and is not fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .bed import layers_of

BATCH = 16


@torch.no_grad()
def saliency(model: Any, tokenizer: Any, texts: Sequence[str]) -> dict[int, Tensor]:
    """``[E]`` of each layer with experts."""
    layers, experts = layers_of(model), model.config.num_experts
    total = {layer: torch.zeros(experts) for layer in layers}
    count = {layer: torch.zeros(experts) for layer in layers}
    real: list[Tensor] = []

    def look(layer: int, module: Any, given: tuple[Tensor, Tensor, Tensor]) -> None:
        x, index, weight = (part[real[0]] for part in given)
        for expert in index.unique().tolist():
            at, place = (index == expert).nonzero(as_tuple=True)
            gate, up = (x[at] @ module.gate_up_proj[expert].T).chunk(2, dim=-1)
            out = (torch.nn.functional.silu(gate) * up) @ module.down_proj[expert].T
            total[layer][expert] += (weight[at, place] * out.norm(dim=-1)).sum()
            count[layer][expert] += len(at)

    hooks = [
        model.model.layers[layer].mlp.experts.register_forward_pre_hook(
            lambda module, given, layer=layer: look(layer, module, given)
        )
        for layer in layers
    ]
    for first in range(0, len(texts), BATCH):
        tokens = tokenizer(list(texts[first : first + BATCH]), return_tensors="pt", padding=True)
        real[:] = [tokens["attention_mask"].reshape(-1).bool()]
        model(**tokens)
    for hook in hooks:
        hook.remove()
    return {layer: total[layer] / count[layer].clamp_min(1) for layer in layers}


@torch.no_grad()
def pruned(model: Any, worth: dict[int, Tensor], keep: int) -> Any:
    """The model with the best experts of each layer, in their order."""
    for layer, each in worth.items():
        kept = each.topk(keep).indices.sort().values
        block = model.model.layers[layer].mlp
        block.gate.weight = _of(block.gate.weight, kept)
        block.experts.gate_up_proj = _of(block.experts.gate_up_proj, kept)
        block.experts.down_proj = _of(block.experts.down_proj, kept)
        block.gate.num_experts = block.experts.num_experts = keep
    model.config.num_experts = keep
    return model


def _of(rows: Tensor, kept: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(rows[kept].clone(), requires_grad=False)
