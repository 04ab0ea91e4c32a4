"""A model's modules, walked once: to see that they are still the same takes a fifth of a walk's time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import methodcaller
from typing import Any

from torch import nn

_VALUES = methodcaller("values")
_PLACE = "_c3po_modules"
"""Among a model's own attributes: what is there goes with it, though it refers to it."""


class Modules:
    """The modules of a model as they are now; it has others, once one was put in, taken out or exchanged.

    Attributes:
        attributes: of each, the model itself first.
        kept: what was found out about the model, and is let go of together with these modules.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self.attributes = [vars(module) for module in modules]
        self._children = [module._modules for module in modules]
        self._known = list(values(self._children))
        self.kept: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """In a copy or a pickle of the model nothing is in their place: it has other modules."""
        return type(None), ()

    def hold(self) -> bool:
        """Whether they are still the same."""
        return list(values(self._children)) == self._known


def modules_of(model: nn.Module) -> Modules:
    """Those of a model: the same object, as long as they are the same."""
    own = vars(model)
    known: Modules | None = own.get(_PLACE)
    if known is None or known.attributes[0] is not own or not known.hold():  # a shallow copy has another's
        known = own[_PLACE] = Modules(model)
    return known


def forget_modules(model: nn.Module) -> None:
    """Let go of a model's modules, and so of all that was kept with them: it counts as changed."""
    vars(model).pop(_PLACE, None)


def values(parts: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """Of several mappings, one after the other."""
    return chain.from_iterable(map(_VALUES, parts))
