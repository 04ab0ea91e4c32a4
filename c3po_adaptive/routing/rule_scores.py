"""Scores of questions along a rule: at every token, or at tails alone, behind prompts as the model itself ran them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..ledger import Entry
from ..types import Prompt
from .flops import Flops
from .grouping import grouped, waiting
from .head import head, likelihoods
from .router_rules import RuleRun
from .sites import Site
from .states import State, by_option, collate
from .tail import tail_hidden


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
