"""Find where a model routes: every fused experts module, its router, and the decoder layer it sits in.

Found from structure, not from names: an experts module is called with ``(hidden, index, weights)``. The router is the
class that the model itself records as ``router_logits``, else a sibling called ``gate`` or ``router``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ModelError

ROUTER_NAMES = ("gate", "router")


@dataclass(frozen=True, eq=False)
class Site:
    """One MoE layer: decoder layer index, fused experts, router, how many experts there are and a token uses."""

    layer: int
    experts: nn.Module
    router: nn.Module
    n_experts: int
    top_k: int


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder's layers, in order."""
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"Expected {type(model).__name__} to have decoder layers, found none; use a causal language model."
        )
    return layers


def find_sites(model: PreTrainedModel) -> tuple[Site, ...]:
    """Every MoE layer of the model, in order.

    Raises:
        ModelError: the model is dense, or its experts or router cannot be reached.
    """
    sites = []
    for index, layer in enumerate(decoder_layers(model)):
        for block in layer.modules():
            experts = [m for m in block.children() if _is_experts(m)]
            if experts:
                sites.append(_site(model, index, block, experts[0]))
    if not sites:
        raise ModelError(
            f"{type(model).__name__} has no MoE layer whose experts are called with (hidden, index, weights): "
            "re-mixing needs a Mixture-of-Experts model such as olmoe or qwen2_moe."
        )
    return tuple(sites)


def _is_experts(module: nn.Module) -> bool:
    names = list(inspect.signature(module.forward).parameters)
    return len(names) == 3 and names[0].startswith("hidden") and "ind" in names[1] and "weight" in names[2]


def _site(model: PreTrainedModel, index: int, block: nn.Module, experts: nn.Module) -> Site:
    config = model.config.get_text_config()
    recorders = getattr(model, "_can_record_outputs", None) or {}
    recorded = getattr(recorders.get("router_logits"), "target_class", None)
    for name, child in block.named_children():
        if (recorded is not None and isinstance(child, recorded)) or name in ROUTER_NAMES:
            n_experts = next(p.shape[0] for p in experts.parameters() if p.ndim == 3)
            return Site(index, experts, child, n_experts, int(config.num_experts_per_tok))
    raise ModelError(
        f"The experts of layer {index} of {type(model).__name__} have no router beside them "
        f"({', '.join(ROUTER_NAMES)}): its routing weights cannot be read."
    )


def router_logits(output: Tensor | tuple[Tensor, ...], n_experts: int) -> Tensor:
    """The logits ``[R, E]`` among a router's outputs: the first tensor with one column per expert."""
    parts = output if isinstance(output, tuple) else (output,)
    for part in parts:
        if part.shape[-1] == n_experts:
            return part.reshape(-1, n_experts)
    raise ModelError(
        f"Expected a router output with {n_experts} columns, got shapes {[tuple(p.shape) for p in parts]}."
    )
