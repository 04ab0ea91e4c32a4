"""A router's numbers, expert by expert, and what it chooses of hidden states that it is given by itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from ..errors import ModelError
from .intercept import recorded
from .sites import WORKING, Site, decoder_layers


def router_tensors(model: PreTrainedModel, site: Site) -> dict[str, Tensor]:
    """What a MoE layer's choice is made by, with E rows each, by name in the model: the one matrix ``[E, H]`` first,
    then biases and factors of experts (``[E]`` or ``[1, E]``), which may stand beside the router.

    Raises:
        ModelError: the router holds no such matrix, several, or a table of token ids.
    """
    where, experts = _place(model, site), site.n_experts
    block = where.rpartition(".")[0]
    named = dict(chain(model.named_parameters(), model.named_buffers()))
    inside = {name: t for name, t in named.items() if name.startswith(f"{where}.")}
    beside = {name: t for name, t in named.items() if name.rpartition(".")[0] == block}
    matrices = [name for name, t in inside.items() if t.ndim == 2 and len(t) == experts]
    if len(matrices) != 1 or named[matrices[0]].shape[1] == experts:
        shapes = ", ".join(f"{name.removeprefix(where)[1:]} {tuple(t.shape)}" for name, t in inside.items())
        raise ModelError(
            f"Expected the router of layer {site.layer} to have one matrix of {experts} rows, one an expert, got "
            f"{type(site.router).__name__} with {shapes}: which row is whose cannot be told in this family. {WORKING}"
        )
    if tables := [name for name, t in inside.items() if not t.is_floating_point()]:
        raise ModelError(
            f"Expected the router of layer {site.layer} to choose by hidden states, got {tables[0]}: it chooses by "
            f"token ids, which have no rows of experts. {WORKING}"
        )
    vectors = [name for name, t in {**inside, **beside}.items() if tuple(t.shape) in ((experts,), (1, experts))]
    return {name: named[name] for name in [*matrices, *vectors]}


@torch.no_grad()
def chosen_of(model: PreTrainedModel, site: Site, read: Tensor, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
    """``[R, E]`` weights that a MoE layer gives its experts for ``read [R, H]``, what its router reads; zero where
    unused.

    Args:
        model: of the layer.
        site: the layer.
        read: hidden states.
        tensors: of the model by name, in the place of its own.

    Raises:
        ModelError: the layer cannot be run by itself.
    """
    name = _place(model, site).rpartition(".")[0]
    block, placed = model.get_submodule(name), next(site.router.parameters())
    read_by = [p for p in inspect.signature(block.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    if len(read_by) != 1 or any(block is layer for layer in decoder_layers(model)):
        raise ModelError(
            f"Expected layer {site.layer} to have a module that routes hidden states alone, got "
            f"{type(block).__name__}, which takes more: what another router would have chosen cannot be told in this "
            f"family. {WORKING}"
        )
    own = {key.removeprefix(f"{name}."): t for key, t in (tensors or {}).items() if key.startswith(f"{name}.")}
    with recorded([site]) as recording:
        functional_call(block, own, (read.to(placed.device, placed.dtype)[None],))
    return recording.weights[0]


def _place(model: PreTrainedModel, site: Site) -> str:
    """The router's name in the model."""
    return next(str(name) for name, module in model.named_modules() if module is site.router)
