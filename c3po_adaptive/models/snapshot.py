"""What a model in memory computes with, at one time: whatever is cached of it is of that."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..routing.modules import Modules, modules_of, values
from ..routing.sites import blocks_of, routed_parts
from ..routing.unwritten import Unwritten

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTED = ("_disable_adapters", "_active_adapter", "merged_adapters", "scaling")
"""What decides how a layer of PEFT takes part, beside its weights."""
NO_SETTINGS = ("training", "gradient_checkpointing")
"""Numbers of modules that do not decide what they compute."""
Settings = dict[str, Any]


class Snapshot:
    """A model as it is now, to tell later whether it still computes the same.

    Seen, in about a tenth of a millisecond, is what is done to weights and buffers (all that ``Unwritten`` sees, and
    others put in their places), modules that are put in, taken out or exchanged, adapters of PEFT that are merged,
    scaled, switched on or off, and numbers that routers, experts and the blocks around them were made with (``top_k``).
    Not seen is what ``Unwritten`` does not see, weights that are offloaded, hooks, other attributes, and the
    configuration: ``RoutedModel.forget`` after such a change.

    Args:
        model: that has MoE layers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._modules = modules_of(model)
        modules = list(model.modules())
        held = [part for module in modules for part in _held(module)]
        self._held, self._bare = [part for part in held if part], [part for part in held if not part]
        self._tensors = Unwritten(self._found())
        self._routing = [(vars(module), _numbers(module)) for module in routing_modules(model)]
        self._adapters = [(vars(m), _adapted(m)) for m in modules if is_adapter(m)]

    def holds(self, modules: Modules) -> bool:
        """Whether a model of these modules is this one, unchanged."""
        return (
            self.same_layers(modules)
            and not any(self._bare)
            and _agree(self._adapters)
            and self._tensors.holds(self._found())
        )

    def same_layers(self, modules: Modules) -> bool:
        """Whether these are the same, and route by the same numbers, whatever their weights are."""
        return modules is self._modules and _agree(self._routing)

    def _found(self) -> list[Tensor]:
        return [tensor for tensor in values(self._held) if tensor is not None]


def changed_settings(model: PreTrainedModel) -> list[tuple[str, Settings]]:
    """By name of the module, what decides beside weights what a model computes, and the kind of model does not say:
    how adapters of PEFT take part, numbers of routers that are others than its configuration makes, and Hub kernels."""
    routing = {id(module) for module in routing_modules(model)}
    made = _made(model)
    found: list[tuple[str, Settings]] = [("", {"use_kernels": True})] if getattr(model, "use_kernels", False) else []
    for name, module in model.named_modules():
        now = _adapted(module) if is_adapter(module) else {}
        like = made.get(name.replace(".base_layer", ""))
        if like is not None and id(module) in routing and isinstance(module, type(like)):
            own = vars(module)
            now |= {key: own.get(key) for key, value in _numbers(like).items() if own.get(key) != value}
        if now:
            found.append((name, now))
    return found


def _made(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The modules by name that its configuration makes, without weights."""
    with torch.device("meta"):
        return dict(type(model)(copy.deepcopy(model.config)).named_modules())


def is_adapter(module: nn.Module) -> bool:
    """Whether it is a layer of PEFT that puts adapters beside another."""
    return "merged_adapters" in vars(module)


def routing_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Routers, experts, and the smallest modules around both."""
    parts = [(experts, router) for _, experts, router, _ in routed_parts(model)]
    return [*blocks_of(model, parts), *chain.from_iterable(parts)]


def _held(module: nn.Module) -> Iterator[Mapping[str, Tensor | None]]:
    """Where a module has its tensors, unless they are offloaded: then they are others after each run."""
    own = (module._parameters, module._buffers)
    if not any(tensor is not None and tensor.is_meta for tensor in values(own)):
        yield from own


def _numbers(module: nn.Module) -> Settings:
    own = vars(module).items()
    return {k: v for k, v in own if type(v) in (int, float, bool) and k not in NO_SETTINGS and not k.startswith("_")}


def _adapted(module: nn.Module) -> Settings:
    return {key: copy.copy(vars(module).get(key)) for key in ADAPTED}


def _agree(parts: Sequence[tuple[Mapping[str, Any], Settings]]) -> bool:
    return all(now.get(key) == value for now, then in parts for key, value in then.items())
