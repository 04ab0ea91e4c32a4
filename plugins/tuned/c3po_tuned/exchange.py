"""Other parameters and modules in a model's places, for as long as a ``with`` block lasts.

Nothing of the model itself is written to: what is trained are copies, or modules that wrap the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from c3po_adaptive import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Place = tuple[nn.Module, str]
"""A module, and the name of a parameter or submodule of it."""


@contextmanager
def exchanged(parts: Mapping[Place, Tensor | nn.Module]) -> Iterator[None]:
    """Afterwards the model holds its own objects again, also after an exception."""
    own: list[tuple[dict[str, object], str, object]] = []
    try:
        for (module, name), part in parts.items():
            among = module._modules if name in module._modules else module._parameters
            held = cast(dict[str, object], among)
            own.append((held, name, held[name]))
            held[name] = part  # in its own place: a state dict keeps its order
        yield
    finally:
        for held, name, replaced in reversed(own):
            held[name] = replaced


@contextmanager
def unaltered(model: PreTrainedModel) -> Iterator[None]:
    """Undo whatever else's code does to modules, attributes and configuration in the block, also after an exception."""
    children = [(module, dict(module._modules)) for module in model.modules()]
    attributes, settings = set(vars(model)), dict(vars(model.config))
    try:
        yield
    finally:
        for module, own in children:
            module._modules.clear()
            module._modules.update(own)
        for name in set(vars(model)) - attributes:
            delattr(model, name)
        vars(model.config).clear()
        vars(model.config).update(settings)


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies in float32 of some of a model's parameters, to be trained and put in their places.

    Attributes:
        trained: by the name of the parameter.
        places: where each stands; a shared one stands in several.
    """

    trained: dict[str, nn.Parameter]
    places: dict[str, tuple[Place, ...]]
    dtypes: dict[str, torch.dtype]

    @classmethod
    def of(cls, model: PreTrainedModel, parameters: Iterable[nn.Parameter], what: str) -> Copies:
        """Of these parameters, which are called ``what`` where they are refused.

        Raises:
            ModelError: there are none, or they are quantized or offloaded.
        """
        wanted = {id(p) for p in parameters}
        found: dict[int, tuple[str, nn.Parameter, list[Place]]] = {}
        for path, module in model.named_modules():
            for name, p in module.named_parameters(recurse=False):
                if id(p) in wanted:
                    found.setdefault(id(p), (f"{path}.{name}", p, []))[2].append((module, name))
        if not found:
            raise ModelError(f"Expected {type(model).__name__} to have {what}, found none; use another baseline.")
        for name, p, _ in found.values():
            if not p.is_floating_point() or p.device.type == "meta":
                raise ModelError(
                    f"Expected {what} in memory and not quantized, got {name} in {p.dtype} on {p.device}; load the "
                    "model whole, without quantize."
                )
        return cls(
            {name: nn.Parameter(p.detach().float().clone()) for name, p, _ in found.values()},
            {name: tuple(places) for name, _, places in found.values()},
            {name: p.dtype for name, p, _ in found.values()},
        )

    def placed(self) -> AbstractContextManager[None]:
        """The model with the copies, in its own dtype."""
        cast = {name: p.to(self.dtypes[name]) for name, p in self.trained.items()}
        return exchanged({place: cast[name] for name, places in self.places.items() for place in places})
