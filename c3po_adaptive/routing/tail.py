"""Run a model: once over whole prompts (prefill), then as often as needed over tails only.

A tail run calls the model's own forward. The layers below ``start`` pass hidden states through, the tail's stored
states are put in at ``start``, and the attention of the layers above sees the prompt through its stored keys and
values. Masks, rotary positions, the final norm and the head stay the model's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from ..errors import ShapeError
from ..types import Prompt
from .caches import Kept, cut, layer_of, passed_by
from .flops import Flops
from .head import forward_as, head, likelihoods
from .intercept import recorded
from .masks import tree_masks
from .packing import Layout, Packed, pack, windows
from .sites import Site, decoder_layers, decoder_of
from .states import Batch, State, laid_out


def cache_argument(model: PreTrainedModel) -> str:
    """The name of the cache argument, which transformers renames in 5.x."""
    names = inspect.signature(model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


@torch.no_grad()
def prefill(
    model: PreTrainedModel, sites: Sequence[Site], prompts: Sequence[Prompt], flops: Flops, layout: Layout
) -> list[State]:
    """Run prompts along the model's own pathway and keep what tails start from. The prompts are one batch."""
    if min(len(p.ids) for p in prompts) == 0:
        raise ShapeError("Expected prompts of at least one token, got an empty one; give the question some text.")
    packed = [pack(p, layout) for p in prompts]
    past = [p.past for p in packed]
    if min(past) == 0 < max(past):  # a prompt of one token has no prefix, and no row of a batch may be all padding
        one = [i for i, n in enumerate(past) if n == 0]
        many = [i for i, n in enumerate(past) if n > 0]
        done = dict(zip(one, prefill(model, sites, [prompts[i] for i in one], flops, layout), strict=True))
        done |= dict(zip(many, prefill(model, sites, [prompts[i] for i in many], flops, layout), strict=True))
        return [done[i] for i in range(len(prompts))]
    layers = decoder_layers(model)
    cache, prefix = _run_prefix(model, prompts, past)
    kept = [_kept(cache, b, past[b], first_layer(sites, 0)) for b in range(len(prompts))]
    index = laid_out(packed, [p.lengths for p in prompts])
    if cache is not None and layout != "tree":
        cache.reorder_cache(cast(Any, index["owner"].to(model.device)))
    with recorded(sites) as recording, _entries([layers[s.layer] for s in sites]) as entries:
        decoded = decoder_of(model)(
            input_ids=index["tokens"].to(model.device),
            **_context(model, packed, index, cache),
        )
    last = decoded.last_hidden_state
    sequences = torch.tensor([len(p.tokens) for p in packed]).cumsum(0) - torch.tensor([len(p.tokens) for p in packed])
    acting = sequences * last.shape[1] + torch.tensor([p.acting for p in packed])
    own, router = (t[acting] for t in recording.stacked())
    scores = likelihoods(
        head(model, last.flatten(0, 1)[index["predicting"].to(last.device)][None])[0], index["at"], index["target"]
    ).split([len(p.row) for p in packed])
    states = []
    for b, (prompt, p) in enumerate(zip(prompts, packed, strict=True)):
        mine = slice(int(sequences[b]), int(sequences[b]) + len(p.tokens))
        width = p.tokens.shape[1]
        hidden = None
        if not prompt.options:
            hidden = torch.cat([prefix[b, prefix.shape[1] - past[b] :], last[mine][0, :width]])
        states.append(
            State(
                prompt,
                p,
                kept[b],
                torch.stack([e[mine, :width] for e in entries]),
                own[b].clone(),
                router[b].clone(),
                scores[b],
                hidden,
                flops.prefill(p),
            )
        )
    return states


def _run_prefix(
    model: PreTrainedModel, prompts: Sequence[Prompt], past: Sequence[int]
) -> tuple[DynamicCache | None, Tensor]:
    """The cache and the final hidden states ``[B, P, H]`` of what comes before the tail, padded on the left."""
    width = max(past)
    if width == 0:
        size = (len(prompts), 0, model.config.get_text_config().hidden_size)
        return None, torch.empty(size).to(model.device, model.dtype)
    cache = DynamicCache(config=model.config)
    tokens, seen = torch.zeros(2, len(prompts), width, dtype=torch.long)
    for b, prompt in enumerate(prompts):
        tokens[b, width - past[b] :], seen[b, width - past[b] :] = torch.tensor(prompt.ids[: past[b]]), 1
    output = decoder_of(model)(
        input_ids=tokens.to(model.device),
        attention_mask=seen.to(model.device),
        position_ids=(seen.cumsum(1) - 1).clamp_min(0).to(model.device),
        use_cache=True,
        **{cache_argument(model): cache},
    )
    return cache, output.last_hidden_state


def _kept(cache: DynamicCache | None, b: int, length: int, first: int) -> tuple[Kept, ...]:
    return () if cache is None else tuple(cut(layer, b, length) for layer in cache.layers[first:])


def _context(
    model: PreTrainedModel, packed: Sequence[Packed], index: Mapping[str, Tensor], cache: DynamicCache | None
) -> dict[str, Any]:
    """What a tail is called with beside its tokens: mask, positions and cache."""
    mask: Any
    if packed[0].visible is not None:
        mask = tree_masks(packed, windows(model), model.dtype)
    else:
        width = max(p.past for p in packed)
        before = torch.stack([torch.arange(width) >= width - p.past for p in packed])[index["owner"]]
        mask = torch.cat([before, index["real"]], 1).long()
    mask = {k: v.to(model.device) for k, v in mask.items()} if isinstance(mask, dict) else mask.to(model.device)
    context = {"attention_mask": mask, "position_ids": index["positions"].to(model.device)}
    return context | ({"use_cache": False} if cache is None else {"use_cache": True, cache_argument(model): cache})


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
            stack.enter_context(forward_as(layer, skip))
        stack.callback(layers[start].register_forward_pre_hook(inject, with_kwargs=True).remove)
        yield


def tail_scores(
    model: PreTrainedModel, sites: Sequence[Site], batch: Batch, start: int, among: Tensor | None = None
) -> Tensor:
    """Log-likelihoods ``[M]`` of the batch's scored tokens, or their logits if only these are computed (``among``).

    Args:
        among: the vocabulary entries that the head is computed for; None: all. See ``tail_hidden`` for the rest.
    """
    hidden = tail_hidden(model, sites, batch, start).flatten(0, 1)
    predicting = hidden[batch.predicting.to(hidden.device)][None]
    if among is None:
        return likelihoods(head(model, predicting)[0], batch.at, batch.target)
    logits = head(model, predicting, among)[0].float()
    return logits[batch.at.to(logits.device), torch.searchsorted(among, batch.target).to(logits.device)].cpu()


def tail_hidden(model: PreTrainedModel, sites: Sequence[Site], batch: Batch, start: int) -> Tensor:
    """Final hidden states ``[N, S, H]`` of the batch's tails, recomputed from MoE layer number ``start`` (0 … L-1) on.

    Routing is the model's own; call inside ``intercepted`` to change it.
    """
    packed = [s.packed for s in batch.states]
    with ExitStack() as stack:
        at = first_layer(sites, start)
        inputs: dict[str, Tensor] = {"input_ids": batch.tokens.to(model.device)}
        if at > 0:
            entering = batch.entry(start)
            stack.enter_context(_from_layer(decoder_layers(model), at, entering))
            inputs = {"inputs_embeds": model.get_input_embeddings()(inputs["input_ids"])}
        cache = _cache(model, batch, at, first_layer(sites, 0))
        hidden: Tensor = decoder_of(model)(**inputs, **_context(model, packed, vars(batch), cache)).last_hidden_state
    return hidden


def first_layer(sites: Sequence[Site], start: int) -> int:
    """The decoder layer that a tail from MoE layer number ``start`` on begins with."""
    return sites[start].layer if sites[start].entered else 0


def _cache(model: PreTrainedModel, batch: Batch, start: int, first: int) -> DynamicCache | None:
    """A cache over the samples' prompts that the model may use up."""
    if not batch.cache:
        return None
    width, cache = max(batch.past), DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        kept = batch.cache[max(0, i - first)]
        cache.layers[i] = layer_of(kept, width) if i >= start else passed_by(layer, kept, width)
    return cache
