"""Losses of a pathway on tails: what optimizers descend and selectors attribute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .models import RoutedModel, answer_rows
from .routing.intercept import Change, intercepted
from .routing.rules import PathwayRule
from .routing.states import Batch
from .routing.tail import tail_scores
from .types import Scope

Transfer = Literal["replace", "shift"]
"""How a sample's ω enters a neighbour's last prompt token: in its routing's place (the paper), or as Δω on top of
it.
"""

Target = Literal["choices", "likelihood"]
"""Cross-entropy over the choices' normalised scores, or the right choice's negative log-likelihood alone."""


@dataclass(frozen=True, eq=False)
class TailScores:
    """Choice scores of R tails under the pathways of B samples, differentiable in the pathways.

    Attributes:
        model: the frozen model. batch: R prefilled questions. sample: ``[R]`` the sample whose ω acts on each.
        own: ω0 of the samples ``[B, L, E]``. active: ``[B, L]`` bool, layers that act.
        support: ``[B, L, E]`` bool, experts that get a gradient even at weight zero; None: only those with weight.
        scope, transfer, top_k: how ω acts.
        spent: FLOPs so far, per sample ``[B]``.
    """

    model: RoutedModel
    batch: Batch
    sample: Tensor
    own: Tensor
    active: Tensor
    support: Tensor | None = None
    scope: Scope = "answer"
    transfer: Transfer = "replace"
    top_k: int | None = None
    spent: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spent", torch.zeros(len(self.own), dtype=torch.float64))

    def __call__(self, weights: Tensor) -> Tensor:
        """Normalised log-likelihood of each choice ``[R, C]`` (-inf where there is none) under ``weights [B, L,
        E]``.
        """
        sites = self.model.sites
        start = int(self.active.any(0).nonzero()[0])
        replaced, shifted = answer_rows(self.batch, self.sample, self.scope, replace=self.transfer == "replace")
        rule = _Counting(
            PathwayRule(weights, self.own, replaced, shifted, self.active, self.support, self.top_k), sites[0].top_k
        )
        with intercepted(sites, rule):
            tokens = tail_scores(self.model.model, sites, self.batch, start)
        self._count(rule, start, backward=weights.requires_grad and torch.is_grad_enabled())
        return self.batch.choice_scores(tokens)

    def _count(self, rule: _Counting, start: int, backward: bool) -> None:
        rows = self.batch.real.numel()
        keys = self.batch.mask.shape[-1]
        predicting = len(self.batch.predicting)
        flops = self.model.flops.tail(rows, keys, predicting, start, rule.mixed, backward=backward)
        per_tail = torch.full((len(self.batch),), flops / len(self.batch), dtype=torch.float64)
        self.spent.index_add_(0, self.sample.cpu(), per_tail)


@dataclass(eq=False)
class _Counting:
    """Passes a rule on, and counts how many experts each layer really runs."""

    rule: PathwayRule
    k: int
    mixed: dict[int, int] = field(default_factory=dict)

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        change = self.rule(position, index, weights)
        changed = 0 if change is None else change.index.numel()
        replaced_all = change is not None and change.rows is None
        self.mixed[position] = changed + (0 if replaced_all else index.numel())
        return change


def right_answer_loss(scores: Tensor, answers: Tensor, target: Target) -> Tensor:
    """Loss ``[R]`` of the right choices ``answers [R]`` under ``scores [R, C]``."""
    if target == "likelihood":
        return -scores.gather(1, answers[:, None]).squeeze(1)
    return F.cross_entropy(scores, answers, reduction="none")


def entropy(scores: Tensor) -> Tensor:
    """Entropy ``[R]`` in nats of the distribution over choices."""
    logs = scores.log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(-1)
