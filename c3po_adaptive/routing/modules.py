"""A model's modules, walked once (that they are the same takes a fifth of a walk's time to see), hooks on them, and
who runs them: one thread at a time, and without dropout where it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from operator import methodcaller
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.utils.hooks import RemovableHandle

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_GUARD = Lock()
_ANSWERING: WeakSet[nn.Module] = WeakSet()
_VALUES = methodcaller("values")
_PLACE = "_c3po_modules"
"""Among a model's own attributes: what is there goes with it, though it refers to it."""


class Modules:
    """The modules of a model as they are now; it has others, once one was put in, taken out or exchanged.

    Attributes:
        attributes: of each, the model itself first.
        cache: what was found out about the model; it is let go of together with these modules.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = list(model.modules())
        self.attributes = [vars(module) for module in modules]
        self._children = [module._modules for module in modules]
        self._known = list(values(self._children))
        self.cache: dict[str, Any] = {}

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
    """Let go of a model's modules, and so of all that was cached with them: it counts as changed."""
    vars(model).pop(_PLACE, None)


def values(parts: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """Of several mappings, one after the other."""
    return chain.from_iterable(map(_VALUES, parts))


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Inside the block modules have these hooks, which were registered; afterwards they are gone."""
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()


def lock_of(model: nn.Module) -> Any:
    """The lock of a transformers model, which whoever runs it through this package holds; a thread may take it again.

    A thread that calls the transformers model itself, past this package, waits for nobody, and may meet another's
    routing.
    """
    with _GUARD:
        if model not in _LOCKS:
            _LOCKS[model] = RLock()
        return _LOCKS[model]


@contextmanager
def answering(model: nn.Module) -> Iterator[Modules | None]:
    """Inside the block no other thread runs the model, and all of it is in evaluation mode; afterwards each module is
    in its own mode again. Gives these modules, if it is the outermost such block.

    A model that is being trained answers as it will when it is done: neither by drawing from dropout, nor by routers
    that jitter.
    """
    with lock_of(model):
        if model in _ANSWERING:
            yield None
            return
        modules = modules_of(model)
        training = [own for own in modules.attributes if own.get("training")]  # compiled ones have none of their own
        try:
            _ANSWERING.add(model)
            for own in training:
                own["training"] = False
            yield modules
        finally:
            _ANSWERING.discard(model)
            for own in training:
                own["training"] = True
