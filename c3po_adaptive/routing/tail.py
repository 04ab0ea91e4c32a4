"""Run a model over tails only, as often as needed.

A tail run calls the model's own forward. The layers below ``start`` pass hidden states through, the tail's stored
states are put in at ``start``, and the attention of the layers above sees the prompt through its stored keys and
values. Masks, rotary positions, the final norm and the head stay the model's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from ..errors import ModelError
from .head import forward_as
from .image_inputs import as_mask, decoder_inputs, ids_beside
from .modules import hook_before, hooked
from .packing import Packed, windows
from .prompt_attention import apart
from .prompt_caches import layer_of, overwritten, passed_by
from .sites import Site, decoder_layers, decoder_of
from .states import TailBatch, TokenBatch


def cache_argument(model: PreTrainedModel) -> str:
    """The name of the cache argument, which transformers renames in 5.x."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


ModelInputs = dict[str, Tensor | dict[str, Tensor] | list[Tensor] | DynamicCache | bool | None]
"""What a decoder is called with, by the names of its arguments; a mask may be one for each kind of layer."""


def context(
    model: PreTrainedModel, packed: Sequence[Packed], batch: TokenBatch, cache: DynamicCache | None
) -> ModelInputs:
    """What a tail is called with beside its tokens, or, where one has pictures, in their place: mask, positions and
    cache."""
    mask: Tensor | dict[str, Tensor]
    if packed[0].visible is not None:
        mask = tree_masks(packed, windows(model), model.dtype)
    else:
        if any(p.images and p.images.sees for p in packed):
            raise ModelError(
                f"Expected {type(model).__name__} to take masks of any shape, as tokens of a picture see each other, "
                f"got {model.config.get_text_config()._attn_implementation} attention; load it with sdpa."
            )
        width = max(p.past for p in packed)
        before = torch.stack([torch.arange(width) >= width - p.past for p in packed])[batch.owner]
        mask = torch.cat([before, batch.real], 1).long()
    mask = {k: v.to(model.device) for k, v in mask.items()} if isinstance(mask, dict) else mask.to(model.device)
    inputs: ModelInputs = {"attention_mask": mask, "position_ids": batch.positions.to(model.device)}
    images = [packed[b].images for b in batch.owner.tolist()]
    if any(images):
        inputs |= decoder_inputs(model, images, batch.tokens, batch.positions)
    inputs["use_cache"] = cache is not None
    if cache is not None:
        inputs[cache_argument(model)] = cache
    return inputs


@contextmanager
def from_layer(layers: nn.ModuleList, start: int, hidden: Tensor) -> Iterator[None]:
    """Skip the decoder layers below ``start`` and let ``hidden`` enter there."""

    def inject(
        module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return (hidden, *args[1:]), {k: v for k, v in kwargs.items() if k != "hidden_states"}

    with skipped(layers[:start]), hooked([hook_before(layers[start], inject, with_kwargs=True)]):
        yield


@contextmanager
def skipped(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let these decoder layers hand on the hidden states that enter them."""

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(forward_as(layer, skip))
        yield


@contextmanager
def entering(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden states that enter each of these decoder layers."""
    taken: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        taken.append(args[0] if args else kwargs["hidden_states"])

    with hooked(hook_before(layer, hook, with_kwargs=True) for layer in layers):
        yield taken


def tail_hidden(model: PreTrainedModel, sites: Sequence[Site], batch: TailBatch, start: int) -> Tensor:
    """Final hidden states ``[N, S, H]`` of the batch's tails, recomputed from MoE layer number ``start`` (0 … L-1) on.

    Routing is the model's own; call inside ``intercepted`` to change it.
    """
    packed = [s.packed for s in batch.states]
    with ExitStack() as stack:
        at = first_layer(sites, start)
        inputs: ModelInputs = {"input_ids": batch.tokens.to(model.device)}
        if at > 0:
            stack.enter_context(from_layer(decoder_layers(model), at, batch.entry(start)))
            embeddings = model.get_input_embeddings()(batch.tokens.to(model.device))
            inputs = {"inputs_embeds": embeddings, **ids_beside(model, batch.tokens)}
        cache = _cache(model, batch, at, first_layer(sites, 0))
        stack.enter_context(overwritten(() if cache is None else cache.layers))
        stack.enter_context(apart(model, cache))
        inputs |= context(model, packed, batch, cache)
        hidden: Tensor = decoder_of(model)(**inputs).last_hidden_state
    return hidden


def first_layer(sites: Sequence[Site], start: int) -> int:
    """The decoder layer that a tail from MoE layer number ``start`` on begins with."""
    return sites[start].layer if sites[start].entered else 0


def _cache(model: PreTrainedModel, batch: TailBatch, start: int, first: int) -> DynamicCache | None:
    """A cache over the samples' prompts that the model may use up."""
    if not batch.cache:
        return None
    width, cache = max(batch.past), DynamicCache(config=model.config)
    some = next(state for part in batch.cache for state in part.tensors.values())  # a layer of experts alone has none
    for i, layer in enumerate(cache.layers):
        cache.layers[i] = layer_of(batch.cache[i - first], width) if i >= start else passed_by(layer, some, width)
    return cache


def tree_masks(
    packed: Sequence[Packed], kinds: dict[str, int | None], dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """For each kind of layer ``[B, 1, S, P + S]``, added to attention scores."""
    masks = {kind: _mask(packed, kind, window, dtype) for kind, window in kinds.items()}
    return masks.get("", masks)


def _mask(packed: Sequence[Packed], kind: str, window: int | None, dtype: torch.dtype) -> Tensor:
    """Every tail row sees its own prompt (padded on the left) and its ancestors in the tail, within the window."""
    width, rows = max(p.past for p in packed), max(p.tokens.shape[1] for p in packed)
    seen = torch.zeros(len(packed), rows, width + rows, dtype=torch.bool)
    for b, p in enumerate(packed):
        here = p.tokens.shape[1]
        seen[b, :here, width - p.past : width] = True
        seen[b, :here, width : width + here] = p.seen
        if window is not None:
            places = torch.cat([torch.arange(width) - (width - p.past), p.positions[0]])
            mine = p.positions[0][:, None]
            chunked = kind == "chunked_attention"
            near = mine // window == places // window if chunked else mine - places < window
            seen[b, :here, : width + here] &= near
        if p.images is not None and kind in p.images.sees:  # the prompt's own tokens come first
            own = p.images.sees[kind][p.past :, p.past :]
            seen[b, : len(own), width : width + len(own)] = own
        seen[b, range(here, rows), range(width + here, width + rows)] = True  # padding sees itself: no NaN
    if window is not None:  # such a layer's cache keeps the last tokens only
        seen = seen[:, :, max(0, width - (window - 1)) :]
    return as_mask(seen, dtype)[:, None]
