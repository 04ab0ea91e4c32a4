"""Answering: one thread at a time, and without dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

from .intercept import lock_of

_ANSWERING: WeakSet[nn.Module] = WeakSet()


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
        training = training_modules(model)
        try:
            _ANSWERING.add(model)
            for module in training:
                module.training = False
            yield True
        finally:
            _ANSWERING.discard(model)
            for module in training:
                module.training = True


def training_modules(model: nn.Module) -> list[nn.Module]:
    """Those in training mode; ``modules()`` takes three times as long, which is felt in a short answer."""
    found = [model]
    for module in found:
        found += [child for child in module._modules.values() if child is not None]
    return [module for module in found if module.training]
