"""Answering: one thread at a time, and without dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary, WeakSet

from torch import nn

from .intercept import lock_of
from .modules import Modules

_ANSWERING: WeakSet[nn.Module] = WeakSet()
_MODULES: WeakKeyDictionary[nn.Module, Modules] = WeakKeyDictionary()


@contextmanager
def answering(model: nn.Module) -> Iterator[bool]:
    """Inside the block no other thread runs the model, and all of it is in evaluation mode; afterwards each module is
    in its own mode again. Gives whether this is the outermost such block.

    A model that is being trained answers as it will when it is done: neither by drawing from dropout, nor by routers
    that jitter.
    """
    with lock_of(model):
        if model in _ANSWERING:
            yield False
            return
        training = [own for own in _modules_of(model).attributes if own["training"]]
        try:
            _ANSWERING.add(model)
            for own in training:
                own["training"] = False
            yield True
        finally:
            _ANSWERING.discard(model)
            for own in training:
                own["training"] = True


def _modules_of(model: nn.Module) -> Modules:
    known = _MODULES.get(model)
    if known is None or not known.are_of(model):
        known = _MODULES[model] = Modules(model)
    return known
