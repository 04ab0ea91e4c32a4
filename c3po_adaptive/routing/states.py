"""Everything of a sample that ω cannot change, computed once and cached: what tail recomputation starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from .._printed import in_brief
from ..gate import Gate
from ..ledger import Entry
from ..types import Prompt
from .head import ROWS, Tangent, plane
from .packing import Packed
from .prompt_caches import CacheSlice, joined


@dataclass(frozen=True, eq=False)
class State:
    """A prefilled sample.

    Attributes:
        prompt: the tokens.
        packed: how its tail is laid out.
        cache: per decoder layer from the first MoE layer on, what the prompt before the tail left; () if nothing did.
        entry: ``[L, Q, S, H]`` hidden states of the tail where they enter each MoE layer's decoder layer.
        own: ω0 ``[L, E]`` at the token where a pathway acts: the prompt's last one, most often.
        router: ``[L, E]`` the router's distribution there.
        gate: what makes ω0 of it.
        router_input: ``[L, H]`` the hidden states that the routers read there.
        token_scores: ``[M]`` log-likelihoods of the scored tokens along the model's own pathway.
        final: ``[U, H]`` final hidden states of the tokens that predict a scored one.
        hidden: ``[T, H]`` final hidden states of a raw text; None for a question, of which only the tail is ever
            scored.
        work: what the prefill took.
    """

    prompt: Prompt
    packed: Packed
    cache: tuple[CacheSlice, ...]
    entry: Tensor
    own: Tensor
    router: Tensor
    gate: Gate
    router_input: Tensor
    token_scores: Tensor
    final: Tensor
    hidden: Tensor | None
    work: Entry
    _tangent: list[Tangent] = field(default_factory=list)
    __repr__ = in_brief

    @property
    def tangent(self) -> Tangent | None:
        """The head's normalizer around ``final``, once it was needed."""
        return self._tangent[0] if self._tangent else None

    def keep_tangent(self, normalizer: Tensor, slope: Tensor) -> None:
        """``[U]`` and ``[U, H]``."""
        self._tangent[:] = [Tangent(self.final, normalizer, slope)]

    @property
    def last_hidden(self) -> Tensor:
        """``[H]`` final hidden state at the prompt's last token."""
        if self.hidden is not None:
            return self.hidden[-1]
        return self.final[(self.packed.row.unique() == self.packed.last).nonzero()[0, 0]]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors it holds, which a byte budget counts, with room for the tangent."""
        held = [self.entry, self.own, self.router, self.router_input, self.token_scores, self.final, self.final]
        held += [self.gate.bias, self.gate.scale]
        held += [] if self.hidden is None else [self.hidden]
        shown = [part for part in (self.packed.images, self.prompt.extra) if part is not None]
        return sum(t.nbytes for t in held) + sum(k.nbytes for k in self.cache) + sum(part.nbytes for part in shown)


def tangent_of(model: PreTrainedModel, states: Sequence[State]) -> Tangent:
    """Of the states' tokens that predict, one state after another; each state keeps its own."""
    lacking = list({id(s): s for s in states if s.tangent is None}.values())
    if lacking:
        sizes = [len(s.final) for s in lacking]
        hidden = torch.cat([s.final for s in lacking])
        parts = [plane(model, part) for part in hidden.split(ROWS)]
        normalizer, slope = (torch.cat(column) for column in zip(*parts, strict=True))
        for state, n, s in zip(lacking, normalizer.split(sizes), slope.split(sizes), strict=True):
            state.keep_tangent(n.clone(), s.clone())
    tangents = [s.tangent for s in states if s.tangent is not None]
    return Tangent(*(torch.cat([getattr(t, name) for t in tangents]) for name in ("hidden", "normalizer", "slope")))


def normalized(state: State, tokens: Tensor) -> Tensor:
    """Score of each choice ``[C]``: the sum of its tokens' log-likelihoods ``tokens [M]`` over its length."""
    return by_option(tokens, state.packed.option, state.prompt.lengths)


def by_option(tokens: Tensor, option: Tensor, lengths: Sequence[float]) -> Tensor:
    """``[C]`` the sum of each option's ``tokens [M]``, by ``option [M]`` (-1: of none), over its length."""
    of_one = option >= 0
    return tokens.new_zeros(len(lengths)).index_add(0, option[of_one], tokens[of_one]) / torch.tensor(lengths)


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenBatch:
    """Sequences side by side: ``N`` of them, of B prompts, padded on the right.

    Attributes:
        owner: ``[N]`` whose sequence it is.
        acting: ``[N]`` place of the token where ω acts.
        last: ``[N]`` place of the prompt's last token.
        tokens: ``[N, S]``.
        positions: ``[N, S]``.
        real: ``[N, S]`` bool, no padding.
        predicting: ``[U]`` the places ``n * S + s`` that predict a scored token: only these pass the head.
        at: ``[M]`` for each scored token, which of U predicts it.
        scored: ``[M]`` the token itself.
        sample: ``[M]`` the sample that it belongs to.
        option: ``[M]`` the option that it belongs to; -1: to none.
        lengths: ``[B, C]`` what log-likelihoods are divided by; inf where a sample has fewer options.

    All of it is on the CPU; what enters the model goes to its device there.
    """

    owner: Tensor
    acting: Tensor
    last: Tensor
    tokens: Tensor
    positions: Tensor
    real: Tensor
    predicting: Tensor
    at: Tensor
    scored: Tensor
    sample: Tensor
    option: Tensor
    lengths: Tensor

    def final(self, hidden: Tensor) -> Tensor:
        """``[U, H]`` of hidden states ``[N, S, H]``: those that predict a scored token, where the head is needed."""
        return hidden.flatten(0, 1)[self.predicting.to(hidden.device)]

    def choice_scores(self, token_scores: Tensor) -> Tensor:
        """Normalized log-likelihood of each choice ``[B, C]`` (-inf where there is none) of ``token_scores [M]``."""
        n, c = self.lengths.shape
        # Each token is added to the place b * C + c of its option; tokens that are given (option -1) count for none.
        of_one = self.option >= 0
        place = (self.sample * c + self.option)[of_one]
        sums = token_scores.new_zeros(n * c).index_add(0, place, token_scores[of_one]).view(n, c)
        return (sums / self.lengths).masked_fill(self.lengths.isinf(), -torch.inf)


@dataclass(frozen=True, eq=False, kw_only=True)
class TailBatch(TokenBatch):
    """The tails of ``states`` side by side, behind their prompts, which are padded on the left."""

    states: tuple[State, ...]
    _entries: dict[int, Tensor] = field(default_factory=dict)
    _tangents: list[Tangent] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.states)

    @property
    def past(self) -> list[int]:
        """Tokens before the tail, of each sample."""
        return [s.packed.past for s in self.states]

    def entry(self, site: int) -> Tensor:
        """``[N, S, H]`` hidden states that enter MoE layer number ``site``."""
        if site not in self._entries:
            self._entries[site] = widened([s.entry[site] for s in self.states], self.positions.shape[1])
        return self._entries[site]

    def tangent(self, model: PreTrainedModel) -> Tangent:
        """Of the places that predict, computed where the states do not have it."""
        if not self._tangents:
            self._tangents.append(tangent_of(model, self.states))
        return self._tangents[0]

    @cached_property
    def cache(self) -> list[CacheSlice]:
        """The samples' caches side by side, one per entry of ``State.cache``; empty if nothing was cached."""
        return [joined(parts, self.owner) for parts in zip(*(s.cache for s in self.states), strict=True)]


def widened(parts: Sequence[Tensor], width: int) -> Tensor:
    """``[N, S, H]`` of each sample's sequences ``[Q, s, H]``, padded on the right to ``width``."""
    return torch.cat([pad(part, (0, 0, 0, width - part.shape[1])) for part in parts])


def laid_out(packed: Sequence[Packed], lengths: Sequence[Sequence[float]]) -> TokenBatch:
    """The sequences of B prompts side by side; a row's place is its sequence's times the batch's width, and its own."""
    width = max(p.tokens.shape[1] for p in packed)
    first = [0, *torch.tensor([len(p.tokens) for p in packed]).cumsum(0).tolist()]
    # [B, C], infinite where a prompt has fewer options.
    table = torch.full((len(packed), max(1, *map(len, lengths))), torch.inf)
    for b, row in enumerate(lengths):
        table[b, : len(row)] = torch.tensor(row, dtype=torch.float)
    # [M] place n * S + s, in the batch, of the row that predicts each scored token: a prompt's own place q * s_own + s
    # taken apart, moved behind the sequences of the prompts before it, and put together by the batch's width.
    place = torch.cat(
        [(first[b] + p.row // p.tokens.shape[1]) * width + p.row % p.tokens.shape[1] for b, p in enumerate(packed)]
    )
    predicting, at = place.unique(return_inverse=True)  # the head runs once a row, however many tokens it predicts
    each = [len(p.tokens) for p in packed]  # sequences of each prompt

    def of_sequences(values: Sequence[int]) -> Tensor:
        return torch.tensor(values).repeat_interleave(torch.tensor(each))

    def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([pad(t, (0, width - t.shape[1])) for t in tensors])

    return TokenBatch(
        owner=of_sequences(range(len(packed))),
        acting=of_sequences([p.acting for p in packed]),
        last=of_sequences([p.last for p in packed]),
        tokens=side_by_side([p.tokens for p in packed]),
        positions=side_by_side([p.positions for p in packed]),
        real=side_by_side([p.real for p in packed]),
        predicting=predicting,
        at=at,
        scored=torch.cat([p.scored for p in packed]),
        sample=torch.cat([torch.full_like(p.row, b) for b, p in enumerate(packed)]),
        option=torch.cat([p.option for p in packed]),
        lengths=table,
    )


def collate(states: Sequence[State]) -> TailBatch:
    """Lay states side by side."""
    batch = laid_out([s.packed for s in states], [s.prompt.lengths for s in states])
    return TailBatch(states=tuple(states), **vars(batch))
