"""Put the embedded model together: dense weights and the small trained tensors, as a stock ``qwen2_moe``.

Nothing in the result needs this package. ``qwen2_moe`` differs from the carved model in two ways that weights absorb:
its shared expert has a gate, which zero weights turn into the constant ½ (so the shared output is doubled), and its
routing weights sum to one (so the routed outputs are scaled by the number of experts used).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

from ...errors import ArtifactError


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The trained tensors and the recipe they were made by."""
    try:
        with safe_open(path, "pt") as file:
            recipe = json.loads(file.metadata()["recipe"])
            return {name: file.get_tensor(name) for name in file.keys()}, recipe  # noqa: SIM118 (not a mapping)
    except Exception as error:  # safetensors raises its own, unexported error for a file cut short
        raise ArtifactError(f"{path} cannot be read ({error}); install c3po_adaptive again.") from error


@torch.no_grad()
def assemble(dense: LlamaForCausalLM, tensors: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> Qwen2MoeForCausalLM:
    """The carved model with its adapters merged.

    Args:
        dense: SmolLM2-135M-Instruct.
        tensors: see ``export`` in ``recover.py``.
        recipe: as a mapping.
    """
    model = Qwen2MoeForCausalLM(_config(dense, recipe))
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


def _config(dense: LlamaForCausalLM, recipe: Mapping[str, Any]) -> Qwen2MoeConfig:
    c = dense.config
    routed = c.intermediate_size - recipe["shared"]
    return Qwen2MoeConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        max_position_embeddings=c.max_position_embeddings,
        rms_norm_eps=c.rms_norm_eps,
        rope_parameters=c.rope_parameters,
        tie_word_embeddings=True,
        qkv_bias=False,
        num_experts=recipe["experts"],
        num_experts_per_tok=recipe["top_k"],
        norm_topk_prob=True,
        moe_intermediate_size=routed // recipe["experts"],
        shared_expert_intermediate_size=recipe["shared"],
        mlp_only_layers=[i for i in range(c.num_hidden_layers) if i not in recipe["layers"]],
        bos_token_id=c.bos_token_id,
        eos_token_id=c.eos_token_id,
        pad_token_id=c.pad_token_id,
    )


def _fill(block: Any, dense: Any, tensors: Mapping[str, Tensor], prefix: str, recipe: Mapping[str, Any]) -> None:
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
