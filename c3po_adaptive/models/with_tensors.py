"""A model with other numbers in some places, which shares all others with the model that it is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ModelError, ShapeError
from ..routing.sites import WORKING, Site
from .routed import RoutedModel


def with_tensors(model: RoutedModel, tensors: Mapping[str, Tensor]) -> RoutedModel:
    """A copy of the modules, with these tensors, by name, in place of the model's, and all others shared.

    Raises:
        ModelError: quantized or offloaded weights.
        ShapeError: a tensor of another shape than the model's, or of a name that the model does not have.
    """
    check_weights(model)
    there = dict(chain(model.model.named_parameters(remove_duplicate=False), model.model.named_buffers()))
    for name, tensor in tensors.items():
        if name not in there or tensor.shape != there[name].shape:
            expected = tuple(there[name].shape) if name in there else "no such tensor"
            raise ShapeError(
                f"Expected tensors of {model.name!r} by name, in their shapes, got {name} {tuple(tensor.shape)} where "
                f"it has {expected}; take names from router_tensors, or from its state_dict."
            )
    shared = {id(t): t for t in chain(model.model.parameters(), model.model.buffers())}
    with model.lock:
        made = copy.deepcopy(model.model, dict(shared))
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition(".")
        module = made.get_submodule(owner)
        new = tensor.detach().to(getattr(module, key), copy=True)  # what is on disk may be of another dtype
        setattr(module, key, nn.Parameter(new, requires_grad=False) if key in module._parameters else new)
    copied = RoutedModel(made, model.tokenizer, model.name, model.cache_bytes, model.processor)
    copied.reads_no_images = model.reads_no_images
    return copied


def check_weights(model: RoutedModel) -> None:
    """Refuse a model whose numbers cannot be exchanged.

    Raises:
        ModelError: quantized or offloaded weights.
    """
    if getattr(model.model.config, "quantization_config", None) is not None:
        raise ModelError("Expected weights as they were trained, got quantized ones; load the model without quantize.")
    if any(p.device.type == "meta" for p in model.model.parameters()):
        raise ModelError("Expected weights in memory, got some that are offloaded; load the model on one device.")


def router_tensors(model: PreTrainedModel, site: Site) -> dict[str, Tensor]:
    """What a MoE layer's choice is made by, with E rows each, by name in the model: the one matrix ``[E, H]`` first,
    then biases and factors of experts (``[E]`` or ``[1, E]``), which may stand beside the router.

    Raises:
        ModelError: the router holds no such matrix, several, or a table of token ids.
    """
    experts, where = site.n_experts, next(str(name) for name, m in model.named_modules() if m is site.router)
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
