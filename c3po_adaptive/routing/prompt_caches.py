"""What a sample's prompt leaves behind in a model's cache: cut out of a batch, stored, and laid side by side again.

A cache layer holds tensors that grow with the sequence (keys, values, an indexer's keys) and, in recurrent or
convolutional layers, states that are overwritten. The first are padded on the left like the prompts; the second are
copied each time they are used, for a model updates them in place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError

SEQUENCE_AXIS = {"keys": -2, "values": -2, "indexer_keys": 0}
"""Where a sample's tensor grows with the sequence (after its batch axis is gone)."""
STATES = ("conv_states", "recurrent_states")
"""Dicts of tensors that a model overwrites in place."""
LENGTHS = ("cumulative_length", "cumulative_length_linear")
"""Counts of the tokens seen, of all samples: numbers, or tensors that a model adds to in place."""
CONSTANTS = ("_sliding_window_tensor",)


@dataclass(frozen=True, eq=False)
class CacheSlice:
    """One cache layer of one sample.

    Attributes:
        shell: the layer without its tensors: its class and flags.
        tensors: by attribute, or by ``(attribute, key)`` where a layer keeps a dict of them; no batch axis.
    """

    shell: Any
    tensors: dict[str | tuple[str, int], Tensor]

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors.values())


def cut(layer: Any, b: int, length: int) -> CacheSlice:
    """Sample b of a cache layer over left-padded prompts, of which it has ``length`` tokens.

    Raises:
        ModelError: the layer holds tensors in an attribute that is not known here: whether they grow, are overwritten
            or have a batch axis decides how a sample is cut out.
    """
    shell, tensors = copy.copy(layer), {}
    for name, value in vars(layer).items():
        if name in SEQUENCE_AXIS and isinstance(value, Tensor):
            tensors[name] = _without_padding(name, value[b], length)
            setattr(shell, name, None)
        elif name in STATES:
            tensors |= {(name, k): v[b].clone() for k, v in value.items() if v is not None}
            setattr(shell, name, dict.fromkeys(value))
        elif name not in LENGTHS + CONSTANTS and _holds_tensors(value):
            raise ModelError(
                f"Expected tensors of the cache layer {type(layer).__name__} in {', '.join(SEQUENCE_AXIS)} or "
                f"{', '.join(STATES)}, got some in {name!r}; use a release of transformers that "
                "c3po_adaptive's table of models names."
            )
        elif isinstance(value, dict):  # counts and flags, which the live layer keeps changing
            setattr(shell, name, dict(value))
    return CacheSlice(shell, tensors)


def _holds_tensors(value: object) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(v, Tensor) for v in inner)


def _without_padding(name: str, tensor: Tensor, length: int) -> Tensor:
    axis = SEQUENCE_AXIS.get(name)
    if axis is None:
        return tensor.clone()
    last = min(length, tensor.shape[axis])  # a sliding window keeps its last tokens only
    return tensor.narrow(axis, tensor.shape[axis] - last, last).clone()


def joined(parts: Sequence[CacheSlice], owner: Tensor) -> CacheSlice:
    """Samples side by side ``[N, …]``, prompts padded on the left; ``owner [N]`` names whose cache a sequence has."""
    tensors = {
        key: torch.stack(_padded(key if isinstance(key, str) else key[0], [p.tensors[key] for p in parts]))
        for key in parts[0].tensors
    }
    return CacheSlice(
        parts[0].shell, {k: t if len(t) == len(owner) else t[owner.to(t.device)] for k, t in tensors.items()}
    )


def layer_of(part: CacheSlice, width: int) -> Any:
    """A cache layer that a model may use up: over joined samples whose longest prompt has ``width`` tokens.

    Updating it rebinds what grows, so that is shared; states are overwritten in place, so they are copied.
    """
    layer = copy.copy(part.shell)
    for key, tensor in part.tensors.items():
        if isinstance(key, str):
            setattr(layer, key, tensor if key in SEQUENCE_AXIS else tensor.clone())
        else:
            setattr(layer, key[0], {**getattr(layer, key[0]), key[1]: tensor.clone()})
    for name, value in vars(layer).items():  # flags that a model sets per state must not be shared either
        if isinstance(value, dict):
            setattr(layer, name, dict(value))
    return _after(layer, width)


def _after(layer: Any, width: int) -> Any:
    """The layer, its counts of tokens set to ``width``."""
    for name in LENGTHS:
        count = vars(layer).get(name)
        if count is not None:
            setattr(layer, name, torch.full_like(count, width) if isinstance(count, Tensor) else width)
    return layer


def _padded(name: str, tensors: list[Tensor]) -> list[Tensor]:
    axis = SEQUENCE_AXIS.get(name)
    if axis is None:
        return tensors
    width = max(t.shape[axis] for t in tensors)
    after = -axis - 1 if axis < 0 else tensors[0].ndim - 1 - axis  # axes behind the one that is padded
    return [torch.nn.functional.pad(t, (0, 0) * after + (width - t.shape[axis], 0)) for t in tensors]


@contextmanager
def overwritten(layers: Sequence[Any]) -> Iterator[None]:
    """Let a model overwrite the states of these cache layers in place, without breaking the backward pass.

    What the backward pass needs of a state is copied when it is set aside, and so is a tensor of a state's shape:
    some models overwrite a copy that they made (transformers 5.25: models/jamba/modeling_jamba.py).
    """
    states = [t for layer in layers for t in _states(layer)]
    places, shapes = {t.untyped_storage().data_ptr() for t in states}, {t.shape for t in states}
    if not states or not torch.is_grad_enabled():
        yield
        return

    def aside(tensor: Tensor) -> tuple[Tensor, int]:
        own = tensor.detach()
        own = own.clone() if tensor.shape in shapes or tensor.untyped_storage().data_ptr() in places else own
        return own, own._version

    def back(found: tuple[Tensor, int]) -> Tensor:
        tensor, version = found
        if tensor._version != version:  # autograd leaves this check to hooks
            raise RuntimeError(
                "A tensor that the backward pass needs was overwritten in place, and is no cached state."
            )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(aside, back):
        yield


def _states(layer: Any) -> Iterator[Tensor]:
    """Tensors that a model overwrites in place: all but those that grow with the sequence."""
    for name in STATES:
        yield from (v for v in vars(layer).get(name, {}).values() if v is not None)


def passed_by(layer: Any, some: Tensor, width: int) -> Any:
    """Tell a fresh layer how long the prompts are, and no more: for decoder layers that are not run; ``some [N, …]`` is
    any state of theirs."""
    if hasattr(layer, "keys"):
        layer.keys = layer.values = some.new_zeros(len(some), 1, width, 1)
        layer.is_initialized = True
    return _after(layer, width)
