"""Put the carved model together, whose experts are slices of the dense layers: a stock ``qwen2_moe`` likewise.

Nothing in the result needs this package. ``qwen2_moe`` differs from the carved model in two ways that weights absorb:
its shared expert has a gate, which zero weights turn into the constant ½ (so the shared output is doubled), and its
routing weights sum to one (so the routed outputs are scaled by the number of experts used).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Qwen2MoeForCausalLM

from .assemble import Recipe, config_of


@torch.no_grad()
def assemble(dense: LlamaForCausalLM, tensors: Mapping[str, Tensor], recipe: Recipe) -> Qwen2MoeForCausalLM:
    """The carved model with its adapters merged.

    Args:
        dense: SmolLM2-135M-Instruct.
        tensors: see ``export`` in ``studies/embedded_model/carved/recover.py``.
        recipe: with ``shared``.
    """
    width = (dense.config.intermediate_size - recipe["shared"]) // recipe["experts"]
    model = Qwen2MoeForCausalLM(config_of(dense, recipe, width=width, shared=recipe["shared"]))
    model.load_state_dict(dense.state_dict(), strict=False)  # all that is not carved
    model.tie_weights()
    for index in range(recipe["layers"][0], len(dense.model.layers)):
        prefix, layer = f"layers.{index}.", model.model.layers[index]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            projection = getattr(layer.self_attn, name)
            projection.weight += _adapter(tensors, prefix + name)
        for name in ("input_layernorm", "post_attention_layernorm"):
            getattr(layer, name).weight.copy_(tensors[prefix + name].float())
        if index in recipe["layers"]:
            _fill(layer.mlp, dense.model.layers[index].mlp, tensors, prefix, recipe)
    model.eval()
    return model


def _fill(block: Any, dense: Any, tensors: Mapping[str, Tensor], prefix: str, recipe: Recipe) -> None:
    """One carved feed-forward layer."""
    order, shared, experts = tensors[prefix + "order"].long(), recipe["shared"], recipe["experts"]
    gate = dense.gate_proj.weight[order] + _adapter(tensors, prefix + "gate")
    up = dense.up_proj.weight[order] + _adapter(tensors, prefix + "up")
    down = dense.down_proj.weight[:, order] + _adapter(tensors, prefix + "down")
    block.gate.weight.copy_(tensors[prefix + "router"].float())
    block.shared_expert_gate.weight.zero_()
    for module, weight in (("gate_proj", gate[:shared]), ("up_proj", up[:shared]), ("down_proj", 2 * down[:, :shared])):
        projection: nn.Linear = getattr(block.shared_expert, module)
        projection.weight.copy_(weight)
    width = len(order) - shared
    block.experts.gate_up_proj.copy_(
        torch.cat([w[shared:].view(experts, width // experts, -1) for w in (gate, up)], dim=1)
    )
    block.experts.down_proj.copy_(
        recipe["top_k"] * down[:, shared:].view(len(down), experts, width // experts).transpose(0, 1)
    )


def _adapter(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name + ".b"].float() @ tensors[name + ".a"].float()
