"""Attention of tails to their prompts, whose keys and values ω cannot change.

A cache lays those beside the tail's own in new tensors at every run, and the backward pass gives them a gradient. Where
a layer hands both to sdpa as it got them, prompt and tail are attended apart, under one softmax, and neither is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import ModelError

_DIRECT: WeakKeyDictionary[PreTrainedModel, set[int]] = WeakKeyDictionary()
"""Decoder layers that were seen to hand keys and values on as they got them."""


class _Prompts(DynamicLayer):
    """Keys and values of prompts; those of their tails are handed on alone once a layer is known to be direct."""

    direct: bool
    reached: bool | None = None
    own: tuple[Tensor, ...] = ()
    given: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, layer: DynamicLayer, direct: bool) -> Self:
        found = cls()
        vars(found).update(vars(layer), direct=direct)
        return found

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.own, self.reached = (key_states, value_states), False
        keys, values = self.given = self.own if self.direct else self.beside
        keys.prompts = self  # type: ignore[attr-defined]
        return keys, values

    @property
    def past(self) -> tuple[Tensor, Tensor]:
        return cast(Tensor, self.keys), cast(Tensor, self.values)

    @property
    def beside(self) -> tuple[Tensor, Tensor]:
        keys, values = (torch.cat(both, -2) for both in zip(self.past, self.own, strict=True))
        return keys, values


@contextmanager
def apart(model: PreTrainedModel, cache: DynamicCache | None) -> Iterator[None]:
    """Let the layers of ``cache`` over prompts be attended apart from the tails that are run within.

    Raises:
        ModelError: a layer that was direct is not this time.
    """
    sdpa = model.config.get_text_config()._attn_implementation == "sdpa"
    if cache is None or not sdpa or ALL_ATTENTION_FUNCTIONS["sdpa"] is not sdpa_attention_forward:
        yield
        return
    known = _DIRECT.setdefault(model, set())
    prompts = {i: _Prompts.of(layer, i in known) for i, layer in enumerate(cache.layers) if type(layer) is DynamicLayer}
    for i, layer in prompts.items():
        cache.layers[i] = layer
    ALL_ATTENTION_FUNCTIONS["sdpa"] = _attention
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
        for layer in prompts.values():
            layer.own = layer.given = ()  # they know the layer
    for i, layer in prompts.items():
        if layer.reached:
            known.add(i)
        elif layer.direct and layer.reached is False:
            raise ModelError(f"Expected layer {i} of {type(model).__name__} to attend by sdpa, as before; it did not.")


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """sdpa's, of queries ``[N, heads, S, D]`` to the prompts' and the tails' keys and values ``[N, groups, …, D]``."""
    prompts: _Prompts | None = getattr(key, "prompts", None)
    if prompts is None or not prompts.given or value is not prompts.given[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    prompts.reached = True
    (n, heads, rows, size), groups = query.shape, key.shape[1]
    special = kwargs.keys() & {"position_bias", "softcap"} or kwargs.get("dropout")
    many = heads * rows > 2 * groups * size  # scores are larger than what would be copied
    if special or many or (attention_mask is None and rows > 1):
        whole = prompts.beside if prompts.direct else (key, value)
        return sdpa_attention_forward(module, query, *whole, attention_mask, **kwargs)
    scaled = (query * (kwargs.get("scaling") or size**-0.5)).reshape(n, groups, -1, size)
    (before, seen), (own, values) = prompts.past, prompts.own
    scores = torch.cat([scaled @ before.mT, scaled @ own.mT], -1).view(n, heads, rows, -1)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.where(attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = scores.softmax(-1).to(query.dtype).view(n, groups, -1, scores.shape[-1])
    past = before.shape[-2]
    found = shares[..., :past] @ seen + shares[..., past:] @ values
    return found.view(n, heads, rows, -1).transpose(1, 2).contiguous(), None
