"""Batches of questions through everything that an audit tries."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from c3po_adaptive import (
    Entry,
    Format,
    LayerRouting,
    Question,
    Remixer,
    RoutedModel,
    RoutingRule,
    Ruled,
    State,
    default_embedder,
    right_answer_loss,
)

from .expected_gain import EXPECTED, LeftOut
from .fragile import fragile_tokens
from .interventions import PERMUTED, At, Banned, Dimmed
from .plan import AuditPlan, LabelDescent, Trial
from .records import AuditRow

PLAIN, LEVERAGE, BANS, HEADROOM = "as routed", "leverage", "bans", "headroom"
"""What costs are spent on."""


def kind_of(question: Question) -> str:
    """As elsewhere: its subject, or else its task."""
    return question.subject or question.task


@dataclass(frozen=True, eq=False)
class Looking:
    """Counts the tokens that each expert is used by, ``used [B, L, E]``, and changes nothing."""

    used: Tensor

    def __call__(self, routing: LayerRouting) -> None:
        index, weights = routing.index.cpu(), routing.weights.cpu()
        counted = (weights != 0) & routing.real[:, None]
        sample = routing.sample[:, None].expand_as(index)
        ones = torch.ones((), dtype=self.used.dtype)
        self.used[:, routing.position].index_put_((sample[counted], index[counted]), ones, accumulate=True)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Everything that is tried of a question.

    Attributes:
        model: the frozen model.
        format: how questions are put.
        plan: what is tried.
        rules: of the interventions.
        descended: ids of the questions whose label's loss is descended.
        dataset: what rows call their source.
        seed: of what is drawn, as rows say it.
        left_out: answers each question as all others teach; None where they are too few.
    """

    model: RoutedModel
    format: str | Format
    plan: AuditPlan
    rules: Mapping[str, RoutingRule]
    descended: frozenset[str]
    dataset: str
    seed: int
    left_out: LeftOut | None = None

    def rows(self, questions: Sequence[Question]) -> list[AuditRow]:
        """Of labeled questions, run side by side."""
        began = time.perf_counter()
        with self.model.answering():
            looking = Looking(self._counts(len(questions)))
            prompts = [self.model.encode(q, self.format) for q in questions]
            states = self.model.prefill_along(prompts, looking)
            own = [Ruled.of(state) for state in states]
            with torch.no_grad():
                tried = {trial: self._tried(trial, states) for trial in self.plan.trials}
            bans, spent = self._bans(states, questions)
            reached = {descent: self._reached(descent, questions) for descent in self.plan.descents}
            foretold = [None] * len(questions) if self.left_out is None else self.left_out.of(questions)
        seconds = (time.perf_counter() - began) / len(questions)
        moved = tried.get(Trial(PERMUTED, "answers"))
        found = []
        for b, question in enumerate(questions):
            base = states[b].work.flops
            costs = {trial.name: runs[b].work.flops for trial, runs in tried.items()}
            leverage = sum(costs.values())
            mine = {descent.name: each[question.id] for descent, each in reached.items() if question.id in each}
            again = bool(mine)  # the remixer runs the prompt for itself
            headroom = sum(flops for _, flops in mine.values())
            costs |= {name: flops for name, (_, flops) in mine.items()}
            told = foretold[b]
            parts = {LEVERAGE: leverage, BANS: spent[b].flops, HEADROOM: headroom}
            parts |= {} if told is None else {EXPECTED: told.flops}
            found.append(
                AuditRow(
                    dataset=self.dataset,
                    id=question.id,
                    seed=self.seed,
                    kind=kind_of(question),
                    answer=int(question.answer or 0),
                    scores=_plain(own[b].scores()),
                    trials={trial.name: _plain(runs[b].scores()) for trial, runs in tried.items()},
                    reached={name: scores for name, (scores, _) in mine.items()},
                    used=looking.used[b].tolist(),
                    bans=[_plain(layer, 4) for layer in bans[b]] if self.plan.bans else [],
                    tokens=int((own[b].option >= 0).sum()),
                    fragile=[] if moved is None else fragile_tokens(own[b], moved[b]),
                    cost={PLAIN: 1.0 + again} | _shares(parts, base),
                    costs=_shares(costs, base),
                    foretold=told,
                    seconds=round(seconds, 4),
                )
            )
        return found

    def _tried(self, trial: Trial, states: Sequence[State]) -> list[Ruled]:
        rule = trial.rule(self.rules)
        if trial.where == "all tokens":
            return self.model.ruled([state.prompt for state in states], rule)
        return self.model.ruled_from(states, rule, trial.position or 0)

    def _bans(self, states: Sequence[State], questions: Sequence[Question]) -> tuple[Tensor, list[Entry]]:
        """``[B, L, E]`` by how much the loss rises without each expert, and what telling that took."""
        answers = [int(q.answer or 0) for q in questions]
        if not self.plan.bans:
            return self._counts(len(states)), [Entry()] * len(states)
        return self._banned(states, answers) if self.plan.exact else self._told_bans(states, answers)

    def _told_bans(self, states: Sequence[State], answers: Sequence[int]) -> tuple[Tensor, list[Entry]]:
        scale = torch.ones(len(states), len(self.model.sites), self.model.n_experts, requires_grad=True)
        with torch.enable_grad():
            runs = self.model.ruled_from(states, Dimmed(scale))
            (slope,) = torch.autograd.grad(_losses(runs, answers).sum(), scale)
        return -slope, [run.work for run in runs]

    @torch.no_grad()
    def _banned(self, states: Sequence[State], answers: Sequence[int]) -> tuple[Tensor, list[Entry]]:
        """One by one; an expert that a question's tail does not use changes nothing of it."""
        looking = Looking(self._counts(len(states)))
        own = self.model.ruled_from(states, looking)
        before, spent = _losses(own, answers), [run.work for run in own]
        rise = torch.zeros(looking.used.shape)
        for position, expert in looking.used.any(0).nonzero().tolist():
            users = looking.used[:, position, expert].nonzero().squeeze(1).tolist()
            rule = At(position, Banned(expert))
            runs = self.model.ruled_from([states[b] for b in users], rule, position)
            rise[users, position, expert] = _losses(runs, [answers[b] for b in users]) - before[users]
            for b, run in zip(users, runs, strict=True):
                spent[b] += run.work
        return rise, spent

    def _reached(self, descent: LabelDescent, questions: Sequence[Question]) -> dict[str, tuple[list[float], float]]:
        """Scores along the label's own descent, and FLOPs without the prompt's, of the questions that have one."""
        asked = [q for q in questions if q.id in self.descended]
        answers = self._remixers[descent].answer(asked) if asked else []
        return {
            q.id: (_plain(torch.tensor(answer.scores)), answer.cost.total - answer.cost.prefill)
            for q, answer in zip(asked, answers, strict=True)
        }

    @cached_property
    def _remixers(self) -> dict[LabelDescent, Remixer]:
        return {
            descent: Remixer(self.model, None, descent.strategies(self.model), default_embedder(), self.format)
            for descent in self.plan.descents
        }

    def _counts(self, questions: int) -> Tensor:
        return torch.zeros(questions, len(self.model.sites), self.model.n_experts, dtype=torch.long)


def _losses(runs: Sequence[Ruled], answers: Sequence[int]) -> Tensor:
    """``[B]`` negative log-likelihood of the right choices among the choices."""
    each = [
        right_answer_loss(run.scores()[None], torch.tensor([answer]), "choices")[0]
        for run, answer in zip(runs, answers, strict=True)
    ]
    return torch.stack(each)


def _plain(values: Tensor, digits: int = 6) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values.tolist()]


def _shares(flops: Mapping[str, float], base: float) -> dict[str, float]:
    """In base forwards."""
    return {name: float(f"{x / base:.5g}") for name, x in flops.items()}
