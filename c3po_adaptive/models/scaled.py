"""A model's shape without its weights: narrow, to see what a run does, or short, to see how fast its layers are run.

Both are made from a configuration alone, and hold random numbers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ModelError
from ..routing.flops import Flops, measure
from ..routing.sites import Site, decoder_of, moe_layers
from ..routing.states import State
from .footprint import EXPERTS, TOP_K
from .routed import RoutedModel
from .tiny import tiny_moe

LAYERS = ("num_hidden_layers", "first_k_dense_replace", "mlp_only_layers", "decoder_sparse_step", "moe_layer_freq")
TYPES = ("layer_types", "mlp_layer_types")
"""Settings with a word for each layer."""
KEPT = (
    *(*LAYERS, *TYPES, *EXPERTS, *TOP_K, "n_shared_experts", "norm_topk_prob", "n_group", "topk_group"),
    *("attn_layer_period", "attn_layer_offset", "expert_layer_period", "expert_layer_offset", "num_layers"),
    *("max_position_embeddings", "sliding_window", "pad_token_id", "bos_token_id", "eos_token_id"),
)
"""What a narrow model has of the real one."""
DRAWN = 1_000_003  # a prime, so that no two rows of a matrix begin alike
SHORT = 2  # MoE layers of a short model: a tail that begins with the first goes through another


def narrow(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> RoutedModel:
    """A random model with all layers, experts and words of the real one, a few numbers wide.

    What re-mixing runs of it, token by token and expert by expert, is what it would run of the real one; its FLOPs are
    counted with the real sizes.

    Raises:
        ModelError: a family that cannot be made narrow.
    """
    text = config.get_text_config()
    told = [key for key in KEPT if not isinstance(getattr(type(text), key, None), property)]
    kept = {key: getattr(text, key) for key in told if getattr(text, key, None) is not None}
    kept["vocab_size"] = max(text.vocab_size, len(tokenizer))
    with torch.device("meta"):
        real: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    try:
        made = RoutedModel(tiny_moe(text.model_type, **kept), tokenizer, name="narrow")
        if made.layers != moe_layers(real):
            raise ValueError(f"MoE layers {made.layers} in place of {moe_layers(real)}")
        made.flops = _sizes(real, made)
    except Exception as error:  # configurations of many families: each may fail in its own way
        raise ModelError(f"Expected {text.model_type} to have a narrow model of its shape, got: {error}") from error
    return made


def _sizes(real: PreTrainedModel, small: RoutedModel) -> Flops:
    """Matrix sizes of a model that is not there, whose modules go by the same names."""
    names = {id(module): name for name, module in small.model.named_modules()}

    def of_real(site: Site) -> Site:
        experts, router = (real.get_submodule(names[id(module)]) for module in (site.experts, site.router))
        return replace(site, experts=experts, router=router)

    return measure(real, [of_real(site) for site in small.sites])


def _cut(config: PreTrainedConfig, layers: tuple[int, ...], words: int) -> PreTrainedModel:
    """All layers up to the second MoE layer, without memory."""
    cut: Any = copy.deepcopy(config)
    text = cut.get_text_config()
    text.num_hidden_layers = layers[:SHORT][-1] + 1
    for key in TYPES:
        if getattr(text, key, None) is not None:
            setattr(text, key, getattr(text, key)[: text.num_hidden_layers])
    text.vocab_size = max(text.vocab_size, words)
    with torch.device("meta"):
        made: PreTrainedModel = AutoModelForCausalLM.from_config(cut)
    return made


def short_bytes(config: PreTrainedConfig, dtype: torch.dtype, layers: tuple[int, ...]) -> int:
    """Of a short model's weights."""
    return _cut(config, layers, 0).num_parameters() * dtype.itemsize


def short(
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    device: str,
    layers: tuple[int, ...],
) -> RoutedModel:
    """A model of the real width, with all layers up to the second MoE layer.

    Its weights are some random numbers, over and over: drawing billions of them takes longer than what is timed.

    Args:
        config: of the real model.
        tokenizer: likewise.
        dtype: of the weights.
        device: where it is run.
        layers: decoder layers that are MoE layers in the real one.
    """
    model = _cut(config, layers, len(tokenizer))
    model = model.to(dtype).to_empty(device=device)  # type: ignore[arg-type]
    model.eval().requires_grad_(False)
    _fill(model)
    return RoutedModel(model, tokenizer, name="short")


@torch.no_grad()
def _fill(model: PreTrainedModel) -> None:
    some = torch.randn(DRAWN, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # of norms
            parameter.fill_(1.0)
            continue
        flat, scale = parameter.view(-1), parameter.shape[-1] ** -0.5
        for first in range(0, flat.numel(), DRAWN):
            part = flat[first : first + DRAWN]
            torch.mul(some[: part.numel()], scale, out=part)
    for module in model.modules():  # rotary frequencies are no weights, and lost on the way
        if hasattr(module, "inv_freq"):
            frequencies = cast(Tensor, module.inv_freq)
            frequencies.copy_(torch.logspace(0, -4, frequencies.numel()))


def cached_width(model: PreTrainedModel) -> float:
    """Numbers that a decoder layer's cache keeps of a token, on average: the width of keys and values."""
    config = model.config.get_text_config()
    ends = ("k_proj", "v_proj", "kv_b_proj")
    found = [
        module.out_features
        for name, module in decoder_of(model).named_modules()
        if isinstance(module, nn.Linear) and name.endswith(ends)
    ]
    return float(sum(found) / config.num_hidden_layers or 2 * config.hidden_size)


@dataclass(frozen=True)
class Ratio:
    """From a narrow model's prefilled prompts to the real one's.

    Attributes:
        hidden: of widths of hidden states.
        cached: of widths of what a cache keeps.
        itemsize: bytes of a number of the real model.
    """

    hidden: float
    cached: float
    itemsize: int

    def bytes_of(self, state: State) -> float:
        """That the real model's state would take."""
        cached = sum(t.numel() for kept in state.cache for t in kept.tensors.values())
        hidden = state.entry.numel() + state.router_input.numel() + 2 * state.final.numel()
        alike = state.own.nbytes + state.router.nbytes + state.token_scores.nbytes
        return alike + self.itemsize * (cached * self.cached + hidden * self.hidden)


def ratio_of(config: PreTrainedConfig, small: RoutedModel, dtype: torch.dtype) -> Ratio:
    """Of a configuration and its narrow model."""
    with torch.device("meta"):
        real: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    widths = [model.config.get_text_config().hidden_size for model in (real, small.model)]
    return Ratio(widths[0] / widths[1], cached_width(real) / cached_width(small.model), dtype.itemsize)
