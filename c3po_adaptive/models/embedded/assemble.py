"""Put the embedded model together: the dense model, and small experts beside its feed-forward layers, as a stock
``qwen2_moe``.

Nothing in the result needs this package. The dense layer stays whole as the shared expert; the gate of ``qwen2_moe``'s
shared expert is the constant ½ where its weights are zero, so that the shared output is doubled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

from ...errors import ArtifactError


class Recipe(TypedDict):
    """What the embedded model is made by.

    Attributes:
        layers: decoder layers with experts.
        experts: how many each has.
        top_k: how many of them a token uses.
        width: neurons of an expert.
        renormalized: whether weights of a token's experts sum to one, as they do by default.
    """

    layers: list[int]
    experts: int
    top_k: int
    width: int
    renormalized: NotRequired[bool]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Recipe]:
    """The trained tensors and the recipe they were made by."""
    try:
        with safe_open(path, "pt") as file:
            recipe = json.loads(file.metadata()["recipe"])
            return {name: file.get_tensor(name) for name in file.keys()}, recipe  # noqa: SIM118 (not a mapping)
    except Exception as error:  # safetensors raises its own, unexported error for a file cut short
        raise ArtifactError(f"{path} cannot be read ({error}); install c3po_adaptive again.") from error


@torch.no_grad()
def assemble(dense: LlamaForCausalLM, tensors: Mapping[str, Tensor], recipe: Recipe) -> Qwen2MoeForCausalLM:
    """The dense model with experts.

    Args:
        dense: the donor, a Llama.
        tensors: of each layer in the recipe ``gate``, ``up``, ``down`` ``[E, F, H]`` as int8 with scales ``[E, F]``,
            and ``router [E, H]``.
        recipe: that they were made by.
    """
    model = Qwen2MoeForCausalLM(_config(dense, recipe))
    model.load_state_dict(dense.state_dict(), strict=False)  # all but the layers with experts
    model.tie_weights()
    for index in recipe["layers"]:
        block: Any = model.model.layers[index].mlp
        before = dense.model.layers[index].mlp
        block.gate.weight.copy_(tensors[f"layers.{index}.router"].float())
        block.shared_expert_gate.weight.zero_()
        block.shared_expert.gate_proj.weight.copy_(before.gate_proj.weight)
        block.shared_expert.up_proj.weight.copy_(before.up_proj.weight)
        block.shared_expert.down_proj.weight.copy_(2 * before.down_proj.weight)
        gate, up, down = (_scaled(tensors, f"layers.{index}.{name}") for name in ("gate", "up", "down"))
        block.experts.gate_up_proj.copy_(torch.cat([gate, up], dim=1))
        block.experts.down_proj.copy_(down.mT)
    model.eval()
    return model


def _scaled(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return tensors[name].float() * tensors[f"{name}.scale"].float()[..., None]


def _config(dense: LlamaForCausalLM, recipe: Recipe) -> Qwen2MoeConfig:
    """With the donor's sizes, whose whole feed-forward layer is the shared expert."""
    c = dense.config
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
        hidden_act=c.hidden_act,
        tie_word_embeddings=c.tie_word_embeddings,
        qkv_bias=False,
        num_experts=recipe["experts"],
        num_experts_per_tok=recipe["top_k"],
        norm_topk_prob=recipe.get("renormalized", True),
        moe_intermediate_size=recipe["width"],
        shared_expert_intermediate_size=c.intermediate_size,
        mlp_only_layers=[i for i in range(c.num_hidden_layers) if i not in recipe["layers"]],
        bos_token_id=c.bos_token_id,
        eos_token_id=c.eos_token_id,
        pad_token_id=c.pad_token_id,
    )
