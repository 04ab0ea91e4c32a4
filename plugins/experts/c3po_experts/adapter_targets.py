"""What PEFT's LoraConfig needs to know of a model, so that adapters reach its routed experts.

Their weights are parameters of one module a layer, which ``target_modules`` skips without a word (PEFT issue 3009);
``target_parameters`` reaches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from c3po_adaptive import ModelError, decoder_layers, family, is_experts, model_config, routed_parts

TAKEN = {"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
"""Names that PEFT (0.21) takes for those of routed experts in some families, wherever they stand."""


@dataclass(frozen=True)
class PeftTargets:
    """Lists for a LoraConfig, each name a suffix of those of the model.

    Attributes:
        target_parameters: the routed experts' weights, of all MoE layers.
        target_modules: the linear layers of the attention.
        routers: the routers' weights: parameters, too.
    """

    target_parameters: tuple[str, ...]
    target_modules: tuple[str, ...]
    routers: tuple[str, ...]

    def __str__(self) -> str:
        """As it is pasted into a program."""
        lines = [f"target_modules={_listed(self.target_modules)},"] if self.target_modules else []
        lines += [f"target_parameters={_listed(self.target_parameters)},"]
        if self.routers:
            lines += [f"# the routers, too: target_parameters={_listed((*self.target_parameters, *self.routers))},"]
        return "\n".join(["config = LoraConfig(", *(f"    {line}" for line in lines), ")"])


def peft_targets(model: str | PreTrainedModel, revision: str | None = None) -> PeftTargets:
    """Those of a model of transformers, with PEFT's adapters or without; or of one by alias, Hub id or folder, of
    which only its configuration is read.

    Raises:
        ModelError: there is no configuration of a causal language model, it has no MoE layer that can be reached, or
            PEFT cannot adapt its experts.
    """
    if isinstance(model, str):
        with torch.device("meta"):
            return _targets_of(AutoModelForCausalLM.from_config(model_config(model, revision)))
    return _targets_of(getattr(model, "get_base_model", lambda: model)())  # of PEFT's wrapper what it wraps


def _targets_of(model: PreTrainedModel) -> PeftTargets:
    model_type = model.config.get_text_config().model_type
    row = family(model_type)
    if row.no_adapters:
        raise ModelError(
            f"Expected a family whose experts PEFT can adapt, got {model_type}: {row.no_adapters}; adapt its attention "
            "by target_modules alone, or take another model."
        )
    layers = decoder_layers(model)
    experts: dict[str, None] = {}
    routers: dict[str, None] = {}
    inside: set[int] = set()
    for index, held, router, _ in routed_parts(model):
        of_router = {id(p) for p in router.parameters()}
        inside |= {id(m) for part in (held, router) for m in part.modules()}
        for name, parameter in _parameters(layers[index]):
            if id(parameter) in of_router:
                routers |= {name: None} if parameter.ndim == 2 and "bias" not in name else {}
            elif id(parameter) in {id(p) for p in _weights(held)}:
                experts |= {name: None}
    if not experts:
        raise ModelError(
            f"Expected {type(model).__name__} to have routed experts whose weights lie together, found none: PEFT "
            "needs no target_parameters for it. c3po models lists the families that work."
        )
    return PeftTargets(tuple(experts), _of_attention(model, inside), tuple(routers) if row.router_called else ())


def base_modules(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules by the names that they have without PEFT's adapters, whose wrappers and own modules are left out."""
    while isinstance(inside := getattr(module, "base_layer", None), nn.Module):
        module = inside
    yield name, module
    for part, child in module.named_children():
        yield from base_modules(child, f"{name}.{part}".lstrip("."))


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, part in base_modules(module):
        for key, parameter in part.named_parameters(recurse=False):
            yield f"{name}.{key}".lstrip("."), parameter


def _weights(experts: nn.Module) -> Iterator[nn.Parameter]:
    """Of all experts together: of three axes, or of two (dbrx); biases have two as well."""
    for name, parameter in experts.named_parameters():
        if parameter.ndim == 3 or (parameter.ndim == 2 and is_experts(experts) and "bias" not in name):
            yield parameter


def _of_attention(model: PreTrainedModel, inside: set[int]) -> tuple[str, ...]:
    """Last names of the linear layers of attention, where they mean nothing else."""
    mine: set[str] = set()
    others = set(TAKEN)
    for name, module in base_modules(model):
        linear = type(module) is nn.Linear and id(module) not in inside  # subclasses multiply in ways of their own
        of_attention = linear and ("attn" in name or "attention" in name) and "indexer" not in name  # it only chooses
        (mine if of_attention else others).add(name.rpartition(".")[2])
    return tuple(sorted(mine - others))


def _listed(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
