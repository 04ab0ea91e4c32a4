"""Which tokens a call holds while text is generated: whole (left-padded) prompts at first, then one token a step; and
where an answer ends.

Beams and returned sequences of a sample follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from ..errors import DataError, SettingError
from ..ledger import Entry
from ..types import Pathway
from .gates import Routers
from .router_rules import RoutingRule, Rows, RuleRun
from .rules import PathwayRule, following
from .sites import Site
from .styles import Change


def check_room(context: int, length: int, count: int) -> None:
    """Refuse to write ``count`` tokens behind a text of ``length`` where they go past the model's context: there it was
    never trained, and what it writes nobody can rely on.

    Raises:
        DataError: they do, or they are none.
    """
    room = context - length
    if room < 1:
        raise DataError(
            f"Expected a text that leaves room to write in the model's context of {context} tokens, got one of "
            f"{length}; shorten it."
        )
    if not 1 <= count <= room:
        raise DataError(
            f"Expected to generate 1 to {room} tokens behind a text of {length}, as the model's context has {context}, "
            f"got {count}; generate fewer, or give a shorter text."
        )


@dataclass(eq=False)
class Decoding:
    """Calls of each MoE layer so far.

    Attributes:
        prompts: how many there are.
        width: tokens of each, padding included.
        copies: for each MoE layer that has seen the prompts, how often each is decoded side by side.
        steps: for each of these layers, how many calls came after the prompts'.
    """

    prompts: int
    width: int
    copies: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)

    def call(self, position: int, rows: int) -> tuple[Tensor, int]:
        """Whose each of N sequences is ``[N]``, and how many tokens of them came since the prompt: 0 is the prompt.

        Raises:
            SettingError: a call is neither whole prompts nor a token for each.
        """
        n, prompted = self.prompts, position in self.copies
        copies = self.copies.setdefault(position, rows // (n * self.width))
        if rows != n * copies * (1 if prompted else self.width):
            raise SettingError(
                f"Expected whole prompts at first and then one token per step, got {rows} tokens for {n} prompts of "
                f"{self.width}; generate with use_cache=True, without prefill_chunk_size or an assistant."
            )
        step = self.steps[position] = self.steps.get(position, -1) + 1
        return torch.arange(n).repeat_interleave(copies), step


def decoded_rows(seen: Tensor) -> Callable[[int, int], Rows]:
    """What ``RuleRun.routed`` asks for, for prompts of which ``seen [B, T]`` is True where they are no padding."""
    decoding, places = Decoding(*seen.shape), (seen.long().cumsum(1) - 1).clamp_min(0)

    def rows_of(position: int, rows: int) -> Rows:
        owner, step = decoding.call(position, rows)
        if step == 0:
            owners = owner[:, None].expand(-1, seen.shape[1]).flatten()
            return Rows(owners, places[owner].flatten(), seen[owner].flatten())
        return Rows(owner, places[owner, -1] + step, torch.ones_like(owner, dtype=torch.bool))

    return rows_of


class DecodingRule:
    """ω at the last token of each prompt, and Δω on every new token, or on all others, as the pathway's scope says."""

    def __init__(self, pathway: Pathway, width: int, routers: Routers | None) -> None:
        self.pathway, self.routers = pathway, routers
        self.decoding = Decoding(len(pathway.router), width)

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        p = self.pathway
        owner, step = self.decoding.call(position, len(index))
        replaced, shifted = torch.full((2, len(index)), -1)
        if step == 0:
            last = slice(self.decoding.width - 1, None, self.decoding.width)
            if p.scope == "all":
                shifted = owner.repeat_interleave(self.decoding.width)
            replaced[last], shifted[last] = owner, -1
        elif p.scope != "last":
            shifted = owner
        else:
            return None
        rule = PathwayRule(p.router, p.own, replaced, shifted, p.changed(), top_k=p.top_k, routers=self.routers)
        return rule(position, index, weights)


def decoded_along(
    sites: Sequence[Site], routing: Pathway | RoutingRule | None, seen: Tensor
) -> AbstractContextManager[None]:
    """Inside the block ``generate`` follows a routing; ``seen [B, T]`` of B prompts, True where they are no padding.

    Args:
        sites: the model's MoE layers.
        routing: ``[B, L, E]`` of the prompts, or a rule at every token; None: the model's own.
        seen: their attention mask, padding on the left.
    """
    if callable(routing):
        return RuleRun(sites, routing, torch.arange(len(seen))).routed(decoded_rows(seen.cpu().bool()))
    if routing is None or not routing.changed().any():
        return nullcontext()
    routers = None if routing.gate is None else Routers(sites)
    return following(sites, DecodingRule(routing, seen.shape[1], routers), routers)


@dataclass(frozen=True)
class Written:
    """What a model wrote after a prompt: its first line that says something, and what running both took."""

    text: str
    work: Entry


class FirstLine(StoppingCriteria):
    """Ends each sequence with the first line that says something, with an end of text, or after so many tokens.

    Args:
        decode: from new tokens of each sequence to its text.
        most: new tokens of each sequence at most.
        ends: tokens that end a text.
    """

    def __init__(
        self, decode: Callable[[list[list[int]]], list[str]], most: Sequence[int], ends: Collection[int | None]
    ) -> None:
        self.decode, self.most, self.ends = decode, most, ends
        self.tokens: list[list[int]] = [[] for _ in most]
        self._ended = [False] * len(most)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._ended[row]:
                self.tokens[row].append(token)
        for row, text in enumerate(self.decode(self.tokens)):
            said, full = "\n" in text.lstrip(), len(self.tokens[row]) >= self.most[row]
            self._ended[row] |= said or full or self.tokens[row][-1] in self.ends
        return torch.tensor(self._ended, device=input_ids.device)

    @property
    def lines(self) -> list[str]:
        """What each says, without space around it; "" of one that says nothing."""
        return [text.strip().partition("\n")[0].strip() for text in self.decode(self.tokens)]
