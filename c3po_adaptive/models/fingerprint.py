"""Which model it is: every weight counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..storage.identity import routing_versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTH = 32  # hex digits; of releases before, which told models apart by their routers alone, 16
_KNOWN: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()


class _Wraps(Protocol):
    """What has a transformers model, such as a ``RoutedModel``."""

    @property
    def model(self) -> nn.Module: ...


def fingerprint(model: _Wraps) -> str:
    """Identifies a model by its parameters and saved buffers, adapters included, and how they are quantized.

    Models whose routers are the same and whose experts differ are two. It takes seconds for 7 billion weights, and is
    kept until one of them is moved, replaced or written to. A write through ``.data`` is not seen: load the model anew.
    """
    whole = model.model
    state = [(name, key, id(t), t.data_ptr(), t.dtype, t._version) for name, key, t in _tensors(whole)]
    known = _KNOWN.get(whole)
    if known is None or known[0] != state:
        known = _KNOWN[whole] = state, computed(model)
    return known[1]


class _Computes(Protocol):
    """A ``RoutedModel``."""

    @property
    def model(self) -> PreTrainedModel: ...


def numbers_of(model: _Computes) -> list[Any]:
    """What decides the numbers that a model computes, bit for bit: its weights, its dtype and whose code runs it."""
    return [fingerprint(model), str(model.model.dtype), routing_versions()]


def is_of_before(identity: object) -> bool:
    """Whether it was written when models were told apart by their routers alone."""
    return isinstance(identity, str) and len(identity) < LENGTH


def computed(model: _Wraps) -> str:
    """The fingerprint, read from every weight again."""
    from accelerate.utils import align_module_device

    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        for name, module in model.model.named_modules():
            with align_module_device(module):  # brings what is offloaded
                own = list(_own(module))
                for (key, tensor), digest in zip(own, pool.map(_hashed, [t for _, t in own]), strict=True):
                    whole.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)} {digest}\n".encode())
    quantized = getattr(model.model.config, "quantization_config", None)
    if quantized is not None:
        whole.update(str(quantized.to_dict() if hasattr(quantized, "to_dict") else quantized).encode())
    return whole.hexdigest()[:LENGTH]


def _hashed(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().data).hexdigest()


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters, and the buffers that a checkpoint holds: others follow from the configuration."""
    yield from module.named_parameters(recurse=False)
    for key, buffer in module.named_buffers(recurse=False):
        if key not in module._non_persistent_buffers_set:
            yield key, buffer


def _tensors(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    for name, module in model.named_modules():
        yield from ((name, key, tensor) for key, tensor in _own(module))
