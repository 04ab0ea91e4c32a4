"""Choice scores of tails under pathways: differentiable, side by side, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from ..errors import SettingError
from ..ledger import Entry
from ..types import Gradient, Head, Scope, Transfer
from .flops import Flops
from .gates import Routers
from .grouping import Tail, grouped, waiting
from .head import head, likelihoods
from .modules import answering
from .rules import PathwayRule, following
from .sites import Site
from .states import State, TailBatch, collate, normalized
from .styles import Change
from .tail import first_layer, tail_hidden

Way = Literal["letters", "tangent", "full"]


@dataclass(frozen=True, eq=False)
class TailScores:
    """Choice scores of R tails under the pathways of B samples, differentiable in the pathways.

    Tails that are alike run side by side. A tail whose sample has no active layer is not run at all: it keeps the
    scores of its prefill, bit for bit.

    Attributes:
        model: the frozen model.
        sites: its MoE layers.
        flops: its matrix sizes.
        tails: R prefilled questions.
        sample: ``[R]`` the sample whose ω acts on each.
        own: ω0 of the samples ``[B, L, E]``.
        active: ``[B, L]`` bool, layers that act.
        support: ``[B, L, E]`` bool, experts that get a gradient even at weight zero; None: only those with weight.
        scope: see ``Scope``.
        transfer: see ``Transfer``.
        top_k: mix only the k largest weights of a layer; None: all.
        gradient: ω is a router's distribution, and has this gradient; None: it is weights.
        head: whether likelihoods are exact, or divided by the tangent of the normalizer.
        relative: only differences between a tail's choices matter. Where its options are single tokens, the head is
            then computed for these alone, and scores are logits: log-likelihoods up to a number for each tail.
        spent: so far, for each of B samples: what its tails take if they are run alone, without any padding.
        prepared: likewise, what the tangents of its tails take; once, whenever they were really computed.
    """

    model: PreTrainedModel
    sites: Sequence[Site]
    flops: Flops
    tails: Sequence[State]
    sample: Tensor
    own: Tensor
    active: Tensor
    support: Tensor | None = None
    scope: Scope = "answer"
    transfer: Transfer = "replace"
    top_k: int | None = None
    gradient: Gradient | None = None
    head: Head = "full"
    relative: bool = False
    spent: list[Entry] = field(init=False)
    _laid_out: dict[tuple[int, ...], list[tuple[list[int], TailBatch]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spent", [Entry()] * len(self.own))

    def __call__(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """Normalized log-likelihood of each choice ``[R, C]`` under ``weights [B, L, E]``; -inf where there is none.

        Args:
            weights: ``[B, L, E]`` the samples' pathways.
            running: ``[B]`` bool, samples whose tails are run; others' keep the scores of their prefill. None: all.
        """
        with answering(self.model):
            return self._scores(weights, running)

    def _scores(self, weights: Tensor, running: Tensor | None) -> Tensor:
        backward = weights.requires_grad and torch.is_grad_enabled()
        runs = torch.ones(len(self.own), dtype=torch.bool) if running is None else running
        going = tuple(i for i in self._first if runs[self.sample[i]])
        order = sorted(set(range(len(self.tails))) - set(going))
        parts = [self._base[order]]
        for members, batch in self._groups(going):
            order += members
            parts.append(self._run(members, batch, weights, backward))
        width = self._base.shape[1]
        scores = torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1]), value=-torch.inf) for p in parts])
        if not going:
            scores = scores + 0 * weights.sum()  # a gradient of zero, rather than none
        return scores[torch.tensor(order).argsort()]

    @property
    def prepared(self) -> list[Entry]:
        found = [Entry()] * len(self.own)
        for i in self._first:
            if self._way(i) == "tangent" and self.spent[int(self.sample[i])].passes:
                found[int(self.sample[i])] += self.flops.tangent(self.tails[i].packed)
        return found

    def _run(self, members: list[int], batch: TailBatch, weights: Tensor, backward: bool) -> Tensor:
        sample = self.sample[members]
        replaced, shifted = acting_rows(batch, sample, self.scope, self.transfer)
        routers, core = None if self.gradient is None else Routers(self.sites), self.gradient == "core"
        whose = (weights, self.own, replaced, shifted, self.active, self.support)
        rule = _Counting(PathwayRule(*whose, self.top_k, routers, core))
        with following(self.sites, rule, routers):
            hidden = tail_hidden(self.model, self.sites, batch, min(self._first[i] for i in members))
        tokens = self._tokens(batch.final(hidden), batch, self._way(members[0]))
        used = {layer: rows.view(batch.real.shape) for layer, rows in rule.used.items()}
        for row, i in enumerate(members):
            mine = batch.owner == row
            self._count(i, {layer: rows[mine][batch.real[mine]] for layer, rows in used.items()}, backward)
        return batch.choice_scores(tokens)

    def _tokens(self, hidden: Tensor, batch: TailBatch, way: Way) -> Tensor:
        """Log-likelihoods ``[M]`` of the batch's scored tokens, or their logits where only letters are compared."""
        if way == "full":
            return likelihoods(head(self.model, hidden[None])[0], batch.at, batch.scored)
        among, at = batch.scored.unique(), batch.at.to(hidden.device)
        logits = head(self.model, hidden[None], among)[0].float()
        found = logits[at, torch.searchsorted(among, batch.scored).to(hidden.device)]
        if way == "tangent":
            found = found - batch.tangent(self.model).at(hidden)[at]
        return found.cpu()

    def _count(self, tail: int, used: dict[int, Tensor], backward: bool) -> None:
        mixed = {layer: _experts_run(rows, self.sites[layer].top_k) for layer, rows in used.items()}
        state, way = self.tails[tail], self._way(tail)
        entries = None if way == "full" else len(state.packed.scored.unique()) + (way == "tangent")
        work = self.flops.tail(state.packed, self._first[tail], mixed, backward, entries)
        self.spent[int(self.sample[tail])] += work

    @cached_property
    def _first(self) -> dict[int, int]:
        """The first active MoE layer of each tail that has one."""
        active = self.active[self.sample].tolist()
        return {i: layers.index(True) for i, layers in enumerate(active) if True in layers}

    @cached_property
    def _base(self) -> Tensor:
        """Scores along the tails' own pathways ``[R, C]``."""
        scores = [normalized(state, state.token_scores) for state in self.tails]
        return pad_sequence(scores, batch_first=True, padding_value=-torch.inf)

    def _groups(self, going: tuple[int, ...]) -> list[tuple[list[int], TailBatch]]:
        """Tails side by side; laid out anew when some have stopped."""
        if going not in self._laid_out:
            groups = grouped([self._waiting(i) for i in going])
            self._laid_out.clear()
            self._laid_out[going] = [(members, collate([self.tails[i] for i in members])) for members in groups]
        return self._laid_out[going]

    def _waiting(self, i: int) -> Tail:
        """Tails that run together go the same way to the head, too."""
        layers = len(self.flops.linear) - first_layer(self.sites, self._first[i])
        return waiting(i, self.tails[i].packed, self._way(i), layers)

    def _way(self, i: int) -> Way:
        return "letters" if self.relative and self.tails[i].prompt.lettered else self.head


@dataclass(eq=False)
class _Counting:
    """Passes a rule on, and notes how many experts it gives each row of each layer ``[R]`` (0: left to the model)."""

    rule: PathwayRule
    used: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        change = self.rule(position, index, weights)
        used = torch.zeros(len(index), dtype=torch.long, device=index.device)
        if change is not None:
            number = change.index.shape[1] if change.used is None else change.used
            used[slice(None) if change.rows is None else change.rows] = number
        self.used[position] = used.cpu()
        return change


def _experts_run(used: Tensor, top_k: int) -> int:
    """How many (row, expert) pairs one tail takes: rows that change get as many experts as the one with the most."""
    changed = int((used > 0).sum())
    own = 0 if changed == len(used) else top_k * len(used)  # rows in the model's own way are run with all the others
    return changed * int(used.max()) + own


def acting_rows(
    batch: TailBatch, sample: Tensor, scope: Scope, transfer: Transfer = "replace"
) -> tuple[Tensor, Tensor]:
    """For each tail row ``[N * S]``: the sample whose ω replaces its routing, and the one whose Δω shifts it, or -1.

    Padding goes along with its tail, so that a change of all rows is one.

    Args:
        batch: the tails.
        sample: ``[B]`` whose ω acts on each sample of the batch.
        scope: on which tokens beside the acting one Δω acts, see ``Scope``.
        transfer: how ω enters the token where it acts, see ``Transfer``.

    Raises:
        SettingError: a pathway acts on every token, but what comes before the tails is not there to be changed.
    """
    if scope == "all" and any(batch.past):
        raise SettingError("Expected whole prompts for scope 'all', got tails; prefill(…, scope='all') has them.")
    place = torch.arange(batch.real.shape[1])
    acting, after = place == batch.acting[:, None], place > batch.last[:, None]
    owner = sample[batch.owner][:, None].expand_as(acting)
    nobody = torch.full_like(owner, -1)
    replaced = torch.where(acting & (transfer == "replace"), owner, nobody)
    others = {"last": torch.zeros_like(acting), "answer": after, "all": torch.ones_like(acting)}[scope]
    moved = (acting | others) & (replaced < 0)
    return replaced.flatten(), torch.where(moved, owner, nobody).flatten()
