"""Run prompts along the model's own pathway, once, and keep what tails start from.

What comes before the tails is run in batches of about the same length, the tails in batches of about the same width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..errors import ShapeError
from ..types import Prompt
from .flops import Flops
from .grouping import Tail, grouped, waiting
from .head import head, likelihoods
from .image_inputs import ImageInputs, alone, decoder_inputs, image_inputs_of
from .intercept import recorded
from .packing import Layout, Packed, layout_for, pack, padded
from .prompt_caches import CacheSlice, cut, joined, layer_of
from .router_rules import RuleRun
from .sites import Site, decoder_layers, decoder_of
from .states import State, TokenBatch, laid_out
from .tail import ModelInputs, cache_argument, context, entering, first_layer


@dataclass(frozen=True, eq=False)
class _Prefix:
    """A prompt before its tail: what every decoder layer keeps of it, and its final hidden states ``[P, H]``."""

    cache: tuple[CacheSlice, ...]
    hidden: Tensor


_Part = tuple[Prompt, _Prefix, Packed]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ScoredTail:
    """A prompt's tail, and the final hidden states ``[U, H]`` of its tokens that predict a scored one."""

    packed: Packed
    final: Tensor


def in_batches(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    size: int,
    run: Callable[[list[Prompt], Layout, list[int]], Sequence[T]],
    layout_of: Callable[[PreTrainedModel, Prompt], Layout] = layout_for,
) -> list[T]:
    """What ``run`` makes of each prompt, asked with those that are laid out alike, their layout and their numbers: so
    many at a time, of about the same length, so that there is little padding."""
    alike: dict[Layout, list[int]] = {}
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids)):
        alike.setdefault(layout_of(model, prompts[i]), []).append(i)
    found: dict[int, T] = {}
    for layout, numbers in alike.items():
        for part in (numbers[i : i + size] for i in range(0, len(numbers), size)):
            found.update(zip(part, run([prompts[i] for i in part], layout, part), strict=True))
    return [found[i] for i in range(len(prompts))]


@torch.no_grad()
def prefill(
    model: PreTrainedModel,
    sites: Sequence[Site],
    prompts: Sequence[Prompt],
    flops: Flops,
    layout: Layout,
    run: RuleRun | None = None,
    *,
    whole: bool = False,
) -> list[State]:
    """The states of prompts that are laid out alike, along the model's own routing or a rule's; with ``whole`` prompts
    in their tails.

    Raises:
        ShapeError: a prompt without tokens.
    """
    states: dict[int, State] = {}
    for group, parts in _side_by_side(model, prompts, layout, run, whole=whole):
        states.update(zip(group, _run_tails(model, sites, parts, flops, group, run), strict=True))
    return [states[i] for i in range(len(prompts))]


@torch.no_grad()
def prefill_finals(
    model: PreTrainedModel, prompts: Sequence[Prompt], layout: Layout, run: RuleRun | None = None
) -> list[ScoredTail]:
    """What predicts the scored tokens of prompts that are laid out alike, along the model's own routing or a rule's.

    A prefill that stores nothing for tails to start from.

    Raises:
        ShapeError: a prompt without tokens.
    """
    found: dict[int, ScoredTail] = {}
    for group, parts in _side_by_side(model, prompts, layout, run):
        packed = [p for _, _, p in parts]
        batch, call = _call(model, parts)
        owner = torch.tensor(group)[batch.owner]
        with run.routing(owner, batch.positions, batch.real) if run else nullcontext():
            last = decoder_of(model)(**call).last_hidden_state
        found.update(zip(group, map(ScoredTail, packed, _finals(last, batch, packed)), strict=True))
    return [found[i] for i in range(len(prompts))]


def _side_by_side(
    model: PreTrainedModel, prompts: Sequence[Prompt], layout: Layout, run: RuleRun | None, *, whole: bool = False
) -> Iterator[tuple[list[int], list[_Part]]]:
    """Prompts whose tails are run together: their numbers, and each with its prefix, which was run."""
    if min(len(p.ids) for p in prompts) == 0:
        raise ShapeError("Expected prompts of at least one token, got an empty one; give the question some text.")
    packed = [pack(p, layout, whole=whole, images=image_inputs_of(model, p)) for p in prompts]
    prefixes = _prefixes(model, prompts, packed, run)
    packed = [replace(p, images=p.images and p.images.behind(p.past)) for p in packed]
    for group in grouped([waiting(i, p) for i, p in enumerate(packed)]):
        yield group, [(prompts[i], prefixes[i], packed[i]) for i in group]


def _prefixes(
    model: PreTrainedModel, prompts: Sequence[Prompt], packed: Sequence[Packed], run: RuleRun | None
) -> list[_Prefix]:
    past = [p.past for p in packed]
    empty = torch.empty(0, model.config.get_text_config().hidden_size).to(model.device, model.dtype)
    found = {i: _Prefix((), empty) for i, n in enumerate(past) if n == 0}
    own = [i for i, p in enumerate(packed) if p.past > 0 and p.images is not None and p.images.sees]
    others = grouped([Tail(i, None, n) for i, n in enumerate(past) if n > 0 and i not in own])
    for group in (*others, *([i] for i in own)):  # what has masks of its own is run by itself
        sequences, images = [prompts[i].ids[: past[i]] for i in group], [packed[i].images for i in group]
        parts = _run_prefixes(model, sequences, images, group, run)
        found.update(zip(group, parts, strict=True))
    return [found[i] for i in range(len(prompts))]


def _run_prefixes(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    images: Sequence[ImageInputs | None],
    group: Sequence[int],
    run: RuleRun | None,
) -> list[_Prefix]:
    """One batch, padded on the left."""
    cache, (tokens, seen) = DynamicCache(config=model.config), padded(sequences)
    width, places = tokens.shape[1], (seen.long().cumsum(1) - 1).clamp_min(0)
    inputs: ModelInputs = {"input_ids": tokens.to(model.device), "position_ids": places.to(model.device)}
    inputs["attention_mask"] = seen.long().to(model.device)
    if any(images):
        inputs |= decoder_inputs(model, images, tokens, places)
    if images[0] is not None and images[0].sees:
        inputs["attention_mask"] = {k: m.to(model.device) for k, m in alone(images[0], width, model.dtype).items()}
    with run.routing(torch.tensor(group), places, seen) if run else nullcontext():
        hidden = decoder_of(model)(use_cache=True, **inputs, **{cache_argument(model): cache}).last_hidden_state
    return [
        _Prefix(tuple(cut(layer, b, len(ids)) for layer in cache.layers), hidden[b, width - len(ids) :])
        for b, ids in enumerate(sequences)
    ]


def _run_tails(
    model: PreTrainedModel,
    sites: Sequence[Site],
    parts: Sequence[_Part],
    flops: Flops,
    group: Sequence[int],
    run: RuleRun | None,
) -> list[State]:
    """One batch of tails."""
    packed = [p for _, _, p in parts]
    layers = decoder_layers(model)
    batch, call = _call(model, parts)
    owner = torch.tensor(group)[batch.owner]
    sizes = torch.tensor([len(p.tokens) for p in packed])
    first = sizes.cumsum(0) - sizes
    acting = first * batch.tokens.shape[1] + torch.tensor([p.acting for p in packed])
    with (
        run.routing(owner, batch.positions, batch.real) if run else nullcontext(),
        recorded(sites, acting) as recording,
        entering([layers[s.layer] for s in sites]) as entries,
    ):
        last = decoder_of(model)(**call).last_hidden_state
    own, router, read = recording.stacked()
    gate = recording.gate
    finals = _finals(last, batch, packed)
    logits = head(model, torch.cat(finals)[None])[0]
    scores = likelihoods(logits, batch.at, batch.scored).split([len(p.row) for p in packed])
    states = []
    for b, (prompt, before, p) in enumerate(parts):
        mine, width = slice(int(first[b]), int(first[b]) + len(p.tokens)), p.tokens.shape[1]
        states.append(
            State(
                prompt,
                p,
                before.cache[first_layer(sites, 0) :],
                torch.stack([e[mine, :width] for e in entries]),
                own[b].clone(),
                router[b].clone(),
                gate[b].map(Tensor.clone),
                read[b].clone(),
                scores[b],
                finals[b].clone(),
                None if prompt.options else torch.cat([before.hidden, last[mine][0, :width]]),
                flops.prefill(p, run.mixed(group[b]) if run else None),
            )
        )
    return states


def _call(model: PreTrainedModel, parts: Sequence[_Part]) -> tuple[TokenBatch, ModelInputs]:
    """A batch of tails behind their prefixes, padded on the right: how they lie, and what the decoder takes."""
    packed = [p for _, _, p in parts]
    batch = laid_out(packed, [prompt.lengths for prompt, _, _ in parts])
    cache = _cache(model, [before for _, before, _ in parts], packed, batch.owner)
    return batch, {"input_ids": batch.tokens.to(model.device), **context(model, packed, batch, cache)}


def _finals(last: Tensor, batch: TokenBatch, packed: Sequence[Packed]) -> list[Tensor]:
    """``[U, H]`` of each tail: the states that predict a scored token."""
    return list(batch.final(last).split([len(p.row.unique()) for p in packed]))


def _cache(
    model: PreTrainedModel, prefixes: Sequence[_Prefix], packed: Sequence[Packed], owner: Tensor
) -> DynamicCache | None:
    """The prefixes' caches side by side, for the model to resume from."""
    if not prefixes[0].cache:
        return None
    width, cache = max(p.past for p in packed), DynamicCache(config=model.config)
    parts = zip(*(p.cache for p in prefixes), strict=True)
    cache.layers = [layer_of(joined(part, owner), width) for part in parts]
    return cache
