"""Run a model: once over whole prompts (prefill), then as often as needed over tails only.

A tail run calls the model's own forward. The layers below ``start`` pass hidden states through, the tail's stored
states are put in at ``start``, and the attention of the layers above sees the prompt through its stored keys and
values. Masks, rotary positions, the final norm and the head stay the model's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from ..errors import ShapeError
from ..types import Prompt
from .flops import Flops
from .intercept import recorded
from .packing import pack
from .sites import Site, decoder_layers
from .states import Batch, State, attention_mask


def cache_argument(model: PreTrainedModel) -> str:
    """The name of the cache argument, which transformers renames in 5.x."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


@torch.no_grad()
def prefill(model: PreTrainedModel, sites: Sequence[Site], prompts: Sequence[Prompt], flops: Flops) -> list[State]:
    """Run prompts along the model's own pathway and keep what tails start from. The prompts are one batch."""
    layers, first = decoder_layers(model), sites[0].layer
    past = [len(p.ids) - 1 for p in prompts]
    if min(past) < 0:
        raise ShapeError("Expected prompts of at least one token, got an empty one; give the question some text.")
    if min(past) == 0 < max(past):  # a prompt of one token has no prefix, and no row of a batch may be all padding
        one = [i for i, n in enumerate(past) if n == 0]
        many = [i for i, n in enumerate(past) if n > 0]
        done = dict(zip(one, prefill(model, sites, [prompts[i] for i in one], flops), strict=True))
        done |= dict(zip(many, prefill(model, sites, [prompts[i] for i in many], flops), strict=True))
        return [done[i] for i in range(len(prompts))]
    packed = [pack(p) for p in prompts]
    cache, prefix = _run_prefix(model, prompts, past)
    rows = max(len(p.tokens) for p in packed)
    tokens, positions = torch.zeros(2, len(prompts), rows, dtype=torch.long)
    for b, p in enumerate(packed):
        tokens[b, : len(p.tokens)], positions[b, : len(p.tokens)] = p.tokens, p.positions
    mask = attention_mask([p.visible for p in packed], past, model.dtype)
    with recorded(sites) as recording, _entries([layers[s.layer] for s in sites]) as entries:
        decoded = model.get_decoder()(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            position_ids=positions.to(model.device),
            use_cache=True,
            **{cache_argument(model): cache},
        )
    last = decoded.last_hidden_state
    own, router = (t.unflatten(0, (len(prompts), rows))[:, 0] for t in recording.stacked())
    entry = torch.stack(entries)
    states = []
    for b, (prompt, p) in enumerate(zip(prompts, packed, strict=True)):
        predicting, at = p.row.unique(return_inverse=True)
        logits = head(model, last[b : b + 1, predicting])[0]
        scores = _likelihoods(logits, at.to(model.device), p.target.to(model.device))
        states.append(
            State(
                prompt,
                p,
                *_prefix_of(cache, b, past[b], max(past), first, len(layers)),
                entry[:, b, : len(p.tokens)].clone(),
                own[b].clone(),
                router[b].clone(),
                scores,
                None if prompt.options else torch.cat([prefix[b, max(past) - past[b] :], last[b, :1]]),
                flops.prefill(past[b], len(p.tokens), len(predicting)),
            )
        )
    return states


def _run_prefix(model: PreTrainedModel, prompts: Sequence[Prompt], past: Sequence[int]) -> tuple[DynamicCache, Tensor]:
    """The cache and the final hidden states ``[B, P, H]`` of all prompt tokens but the last, padded on the left."""
    width = max(past)
    cache = DynamicCache(config=model.config)
    if width == 0:
        return cache, torch.empty(len(prompts), 0, model.config.get_text_config().hidden_size).to(
            model.device, model.dtype
        )
    tokens, seen = torch.zeros(2, len(prompts), width, dtype=torch.long)
    for b, prompt in enumerate(prompts):
        tokens[b, width - past[b] :], seen[b, width - past[b] :] = torch.tensor(prompt.ids[:-1]), 1
    output = model.get_decoder()(
        input_ids=tokens.to(model.device),
        attention_mask=seen.to(model.device),
        position_ids=(seen.cumsum(1) - 1).clamp_min(0).to(model.device),
        use_cache=True,
        **{cache_argument(model): cache},
    )
    return cache, output.last_hidden_state


def _prefix_of(
    cache: DynamicCache, b: int, length: int, width: int, first: int, n_layers: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    kept: list[Any] = [cache.layers[i] for i in range(first, n_layers)]
    span = slice(width - length, width)  # without padding on the left, and without the tail that ran on top
    return tuple(c.keys[b, :, span].clone() for c in kept), tuple(c.values[b, :, span].clone() for c in kept)


@contextmanager
def _entries(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the hidden states that enter each of the given decoder layers."""
    taken: list[Tensor] = []

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken.append(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield taken


@contextmanager
def _forward_as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give a module another forward; afterwards it has its own again (or the one that device hooks gave it)."""
    shadow = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if shadow is None:
            del module.__dict__["forward"]
        else:
            module.forward = shadow


@contextmanager
def _from_layer(layers: nn.ModuleList, start: int, hidden: Tensor) -> Iterator[None]:
    """Skip the decoder layers below ``start`` and let ``hidden`` enter there."""

    def skip(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states

    def inject(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (hidden, *args[1:]), {k: v for k, v in kwargs.items() if k != "hidden_states"}

    with ExitStack() as stack:
        for layer in layers[:start]:
            stack.enter_context(_forward_as(layer, skip))
        stack.callback(layers[start].register_forward_pre_hook(inject, with_kwargs=True).remove)
        yield


def tail_scores(model: PreTrainedModel, sites: Sequence[Site], batch: Batch, start: int) -> Tensor:
    """Log-likelihoods ``[M]`` of the batch's scored tokens; see ``tail_hidden``."""
    hidden = tail_hidden(model, sites, batch, start).flatten(0, 1)[batch.predicting]
    return _likelihoods(head(model, hidden[None])[0], batch.at, batch.target)


def tail_hidden(model: PreTrainedModel, sites: Sequence[Site], batch: Batch, start: int) -> Tensor:
    """Final hidden states ``[B, S, H]`` of the batch's tails, recomputed from MoE layer number ``start`` (0 … L-1) on.

    Routing is the model's own; call inside ``intercepted`` to change it.
    """
    layers, first = decoder_layers(model), sites[0].layer
    at = sites[start].layer
    entering = batch.entry[start]
    with _from_layer(layers, at, entering):
        output = model.get_decoder()(
            inputs_embeds=entering,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=batch.keys[0].shape[2] > 0,
            **{cache_argument(model): _cache(model, batch, at - first, first, len(layers))},
        )
    hidden: Tensor = output.last_hidden_state
    return hidden


def _cache(model: PreTrainedModel, batch: Batch, skip: int, first: int, n_layers: int) -> DynamicCache | None:
    """A cache over the stored prompts; updating it rebinds its tensors, so the stored ones never grow."""
    if batch.keys[0].shape[2] == 0:
        return None
    cache = DynamicCache(config=model.config)
    for i in range(n_layers):
        kept = max(i - first, skip)  # skipped layers never read theirs, but the length is asked of the first one
        layer: Any = cache.layers[i]
        layer.lazy_initialization(batch.keys[kept], batch.values[kept])
        layer.keys, layer.values = batch.keys[kept], batch.values[kept]
    return cache


def head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits ``[B, T, V]`` of final hidden states ``[B, T, H]``, by the model's own head, scaling and capping."""
    with _forward_as(model.get_decoder(), lambda *args, **kwargs: MoeModelOutputWithPast(last_hidden_state=hidden)):
        logits: Tensor = model(inputs_embeds=hidden).logits
    return logits


def _likelihoods(logits: Tensor, at: Tensor, target: Tensor) -> Tensor:
    """Log-likelihood ``[M]`` of ``target [M]`` under rows ``at [M]`` of ``logits [U, V]``: float32, on the CPU."""
    logits = logits.float()
    return (logits[at, target] - logits.logsumexp(-1)[at]).cpu()
