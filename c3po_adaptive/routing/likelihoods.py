"""Log-likelihoods of options along the model's own routing, a pathway, or a rule: as a whole, with what greedy decoding
gives, and token by token."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .._printed import in_brief
from ..ledger import Entry
from ..types import Pathway, Prompt
from .flops import Flops
from .gates import Routers
from .grouping import grouped, waiting
from .head import ROWS, head, likelihoods
from .packing import Layout, layout_for
from .prefill import ScoredTail
from .router_rules import RuleRun
from .rules import PathwayRule, following
from .scores import acting_rows
from .sites import Site
from .states import State, TailBatch, by_option, collate
from .tail import tail_hidden


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """Of the C options of one prompt.

    Attributes:
        total: ``[C]`` the sum of each option's log-likelihoods, without tokens that are given, in float64.
        greedy: ``[C]`` bool, whether each of these tokens is the likeliest where it stands.
    """

    total: Tensor
    greedy: Tensor
    __repr__ = in_brief


def layout_to_score(model: PreTrainedModel, prompt: Prompt) -> Layout:
    """The cheapest way to score options once: where they all follow from one sequence, one pass over all of it."""
    return "whole" if len({option[:-1] for option in prompt.options}) == 1 else layout_for(model, prompt)


@torch.no_grad()
def likelihoods_of(
    model: PreTrainedModel, prompts: Sequence[Prompt], scored: Sequence[ScoredTail]
) -> list[Likelihoods]:
    """What the final hidden states of some prompts say of their options; logits of a few tokens are held at a time."""
    packed, final = [s.packed for s in scored], torch.cat([s.final for s in scored])
    # [M] which row of ``final`` predicts each scored token: its prompt's rows stand behind those of the prompts before.
    first = torch.tensor([len(s.final) for s in scored]).cumsum(0).roll(1)
    first[0] = 0
    at = torch.cat([p.row.unique(return_inverse=True)[1] + begin for p, begin in zip(packed, first, strict=True)])
    token = torch.cat([p.scored for p in packed])
    score, greedy = torch.empty(len(at), dtype=torch.float64), torch.empty(len(at), dtype=torch.bool)
    for begin, part in zip(range(0, len(final), ROWS), final.split(ROWS), strict=True):
        here = (at >= begin) & (at < begin + ROWS)
        logits, rows = head(model, part[None])[0], at[here] - begin
        score[here] = likelihoods(logits, rows, token[here]).double()
        greedy[here] = logits.argmax(-1).cpu()[rows] == token[here]
    sizes = [len(p.row) for p in packed]
    return [
        _of_options(len(prompt.options), p.option, own, best)
        for prompt, p, own, best in zip(prompts, packed, score.split(sizes), greedy.split(sizes), strict=True)
    ]


def _of_options(count: int, option: Tensor, score: Tensor, greedy: Tensor) -> Likelihoods:
    """Of one prompt; a token of option -1 is given, and counts for none."""
    counts = option >= 0
    total = torch.zeros(count, dtype=torch.float64).index_add(0, option[counts], score[counts])
    missed = torch.zeros(count, dtype=torch.bool).index_fill(0, option[counts & ~greedy], True)
    return Likelihoods(total, ~missed)


@torch.no_grad()
def finals_along(
    model: PreTrainedModel, sites: Sequence[Site], states: Sequence[State], pathway: Pathway
) -> list[ScoredTail]:
    """What predicts the scored tokens of prefilled prompts along their pathways ``[B, L, E]``.

    A sample that its pathway leaves alone keeps what its prefill gave, bit for bit.
    """
    moved = pathway.changed().any(-1).tolist()
    found = {i: state.final for i, state in enumerate(states) if not moved[i]}
    for group in grouped([waiting(i, state.packed) for i, state in enumerate(states) if moved[i]]):
        batch, part = collate([states[i] for i in group]), pathway[group]
        with along(sites, batch, part):
            hidden = tail_hidden(model, sites, batch, first_changed(part.changed()))
        final = batch.final(hidden)
        found.update(zip(group, final.split([len(s.final) for s in batch.states]), strict=True))
    return [ScoredTail(state.packed, found[i]) for i, state in enumerate(states)]


def along(sites: Sequence[Site], batch: TailBatch, pathway: Pathway) -> AbstractContextManager[None]:
    """Inside the block the tails of a batch follow its samples' pathways ``[B, L, E]``."""
    rows = acting_rows(batch, torch.arange(len(batch)), pathway.scope)
    routers = None if pathway.gate is None else Routers(sites)
    rule = PathwayRule(pathway.router, pathway.own, *rows, pathway.changed(), top_k=pathway.top_k, routers=routers)
    return following(sites, rule, routers)


def first_changed(changed: Tensor) -> int:
    """The first MoE layer that any sample changes, of ``[B, L]``; the last one if none does."""
    rows = changed.any(0).nonzero()
    return int(rows[0]) if len(rows) else changed.shape[1] - 1


@dataclass(frozen=True, eq=False)
class Ruled:
    """A question as a rule has it answered.

    Attributes:
        prompt: its tokens.
        option: ``[M]`` the option of each scored token; -1: of none.
        scored: ``[M]`` the token itself.
        token_scores: ``[M]`` its log-likelihood.
        final: ``[U, H]`` final hidden states that predict a scored token.
        at: ``[M]`` which of them predicts it.
        work: what running it took.
    """

    prompt: Prompt
    option: Tensor
    scored: Tensor
    token_scores: Tensor
    final: Tensor
    at: Tensor
    work: Entry
    __repr__ = in_brief

    def scores(self, tokens: Tensor | None = None) -> Tensor:
        """Score of each choice ``[C]``: the sum over its ``tokens [M]``, by default log-likelihoods, by its length."""
        return by_option(self.token_scores if tokens is None else tokens, self.option, self.prompt.lengths)

    @classmethod
    def of(
        cls, state: State, token_scores: Tensor | None = None, final: Tensor | None = None, work: Entry | None = None
    ) -> Self:
        """A prefilled question as it is, or with other scores, final hidden states and work."""
        at = state.packed.row.unique(return_inverse=True)[1]
        return cls(
            state.prompt,
            state.packed.option,
            state.packed.scored,
            state.token_scores if token_scores is None else token_scores,
            state.final if final is None else final,
            at,
            state.work if work is None else work,
        )


def ruled_tails(
    model: PreTrainedModel, sites: Sequence[Site], flops: Flops, states: Sequence[State], run: RuleRun
) -> list[Ruled]:
    """Tails along a rule from its first layer on; differentiable in what the rule makes its weights from."""
    found: dict[int, Ruled] = {}
    for group in grouped([waiting(i, state.packed) for i, state in enumerate(states)]):
        batch = collate([states[i] for i in group])
        with run.routing(torch.tensor(group)[batch.owner], batch.positions, batch.real):
            hidden = tail_hidden(model, sites, batch, run.start)
        final = batch.final(hidden)
        scores = likelihoods(head(model, final[None])[0], batch.at, batch.scored)
        parts = zip(
            group,
            scores.split([len(s.packed.row) for s in batch.states]),
            final.split([len(s.final) for s in batch.states]),
            strict=True,
        )
        for i, tokens, last in parts:
            work = flops.tail(states[i].packed, run.start, run.mixed(i), backward=scores.requires_grad)
            found[i] = Ruled.of(states[i], tokens, last, work)
    return [found[i] for i in range(len(states))]
