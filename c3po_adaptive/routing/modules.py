"""A model's modules, walked once (that they are the same takes a fifth of a walk's time to see), hooks on them, which
act in one thread, and who runs them: one thread at a time, and without dropout where it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import chain
from operator import methodcaller
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_LOCKS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_GUARD = Lock()
_ANSWERING: WeakSet[nn.Module] = WeakSet()
_VALUES = methodcaller("values")
_THREAD = "c3po_thread"
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


def this_thread() -> object:
    """Return an object that stands for the thread that runs.

    Autograd's own threads (one for each CUDA device) count as the thread that called ``backward``, whose torch state
    they have: there gradient checkpointing runs layers again.
    """
    if not torch._C._is_key_in_tls(_THREAD):
        torch._C._stash_obj_in_tls(_THREAD, object())
    return torch._C._get_obj_in_tls(_THREAD)


def in_this_thread(act: Callable[..., Any], otherwise: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Return a function that is ``act`` in the thread that runs now, and in all others ``otherwise``, or returns None.

    Others may call the transformers model meanwhile; they get its own routing.
    """
    here = this_thread()

    @wraps(otherwise or act)
    def called(*args: Any, **kwargs: Any) -> Any:
        chosen = act if this_thread() is here else otherwise
        return None if chosen is None else chosen(*args, **kwargs)

    return called


def hook_before(module: nn.Module, hook: Callable[..., Any], **how: bool) -> RemovableHandle:
    """Register a forward pre-hook that acts in this thread only."""
    return module.register_forward_pre_hook(in_this_thread(hook), **how)


def hook_after(module: nn.Module, hook: Callable[..., Any], **how: bool) -> RemovableHandle:
    """Register a forward hook that acts in this thread only."""
    return module.register_forward_hook(in_this_thread(hook), **how)


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

    A thread that calls the transformers model itself, past this package, waits for nobody: it gets the model's own
    routing, for hooks act in the thread that set them.
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
