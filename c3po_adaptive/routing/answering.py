"""Answering: one thread at a time, and without dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

from .intercept import lock_of
from .modules import Modules, modules_of

_ANSWERING: WeakSet[nn.Module] = WeakSet()


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
