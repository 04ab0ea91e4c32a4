"""What re-mixing would gain here, told before it is done: each question is left out, and answered as the others teach.

The step is that of the preset ``nearest``. Half of the questions choose the rate that the other half is judged by, so
that a choice among rates is no gain. Layers are told apart by what the others' step takes off the question's own loss
in each, to first order: ⟨ω0 − ω, ḡ⟩ with its own integrated gradient ḡ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from c3po_adaptive import (
    INTEGRATED_GRADIENT,
    Format,
    Question,
    ReferenceSet,
    Remixer,
    RemixSettings,
    RoutedModel,
    default_embedder,
    default_registry,
    over_flips,
    over_units,
    preset_named,
    reference_set_of,
    taught,
)
from c3po_adaptive.study import Progress

from .records import AuditInterval, AuditRow, ExpectedGain, Foretold

EXPECTED = "expected gain"
FEWEST = 40
"""Questions, of which fewer teach too little when one is left out."""
RATES = (12.5, 50.0, 200.0)
"""Of the step, in 1/nats."""
PART = 4
"""What is told of fewer labels, is told of a part of them so many times smaller."""
SHOWN = 5
"""Layers that are named."""
KINDS = 5
"""Of question, of which fewer are no sample of kinds."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Labeled questions, each answered as the others teach.

    Attributes:
        model: the frozen model.
        questions: all of them.
        format: how they are put.
        seed: of the part of them that stands for fewer labels.
    """

    model: RoutedModel
    questions: Sequence[Question]
    format: str | Format
    seed: int

    def prepare(self, progress: Progress) -> None:
        """Run what all questions teach, which takes longest, and is kept as it comes."""
        settings, folder = self._all.settings, self._references.artifacts_folder
        taught(
            *(INTEGRATED_GRADIENT, self.model, self.questions, settings),
            format=self.format,
            folder=folder,
            progress=progress,
        )

    def of(self, asked: Sequence[Question]) -> list[Foretold]:
        """Some of the questions, which are run together."""
        many, moved, cost = self._along(self._all, asked)
        few, _, more = self._along(self._few, asked)
        layers = (moved * self._own_gradients(asked)[:, None]).sum(-1)
        shared = self._all.setup_flops / len(self.questions)  # what references teach, each of them once
        prompts = [2 * self.model.plain_work(self.model.encode(q, self.format)).flops for q in asked]
        return [
            Foretold(
                scores=_plain(many[b], q),
                by_few=_plain(few[b], q),
                layers=layers[b].tolist(),
                flops=cost + more + shared + prompts[b],
            )
            for b, q in enumerate(asked)
        ]

    def _along(self, remixer: Remixer, asked: Sequence[Question]) -> tuple[Tensor, Tensor, float]:
        """At each rate scores ``[B, R, C]`` and ω0 − ω ``[B, R, L, E]``; and FLOPs of each question's tails."""
        batch = remixer.labeled(asked)
        whole = batch.problem()
        problem = whole.within(remixer.strategies.selector.select(whole))
        with torch.no_grad():
            slope = self._steps[0].slope(problem)  # what neighbours teach is the same at every rate
            along = [step.along(problem, slope) for step in self._steps]
            found = [problem.scores(weights) for weights in along]
        flops = batch.spending.flops / len(asked)
        return torch.stack(found, 1), torch.stack([problem.own - weights for weights in along], 1), flops

    def _own_gradients(self, asked: Sequence[Question]) -> Tensor:
        """``[B, L, E]`` as each teaches others."""
        kept, settings = self._references.artifacts_folder, self._all.settings
        return taught(INTEGRATED_GRADIENT, self.model, asked, settings, format=self.format, folder=kept)

    @cached_property
    def _steps(self) -> list[Any]:
        """The optimizer of ``nearest`` at each rate."""
        return [default_registry().create("optimizer", {"name": "integrated-step", "lr": rate}) for rate in RATES]

    @cached_property
    def _all(self) -> Remixer:
        return self._remixer(self._references)

    @cached_property
    def _few(self) -> Remixer:
        drawn = torch.randperm(len(self.questions), generator=torch.Generator().manual_seed(self.seed))
        return self._remixer(self._references.subset(drawn[: len(drawn) // PART].sort().values))

    @cached_property
    def _references(self) -> ReferenceSet:
        return reference_set_of(self.questions, self.model, default_embedder(), self.format)

    def _remixer(self, references: ReferenceSet) -> Remixer:
        usual = preset_named("nearest")
        strategies = default_registry().strategies({**usual.specs, "optimizer": "integrated-step"})
        settings = RemixSettings.of(usual.settings)
        return Remixer(self.model, references, strategies, default_embedder(), self.format, settings)


def _plain(scores: Tensor, question: Question) -> list[list[float]]:
    return [[float(f"{x:.6g}") for x in row] for row in scores[:, : len(question.choices)].tolist()]


def expected_gain(rows: Sequence[AuditRow], layers: Sequence[int], seed: int) -> ExpectedGain:
    """What rows foretell, each of whose questions was left out.

    Args:
        rows: with what is foretold of each.
        layers: decoder layers of the L MoE layers.
        seed: of the halves, and of resampling.
    """
    foretold = [(row, row.foretold) for row in rows if row.foretold is not None]
    base = np.array([answered([row.scores], row.answer) for row, _ in foretold])
    many = np.array([answered(told.scores, row.answer) for row, told in foretold])
    few = np.array([answered(told.by_few, row.answer) for row, told in foretold])
    kinds = [row.kind for row, _ in foretold]
    halves = np.random.default_rng(seed).permutation(len(foretold)) % 2
    gains, rate = _crossed(base, many, halves)
    by_few, _ = _crossed(base, few, halves)
    by_rate = np.array([told.layers for _, told in foretold]).mean(0)
    per_layer = by_rate[RATES.index(rate)] if rate else np.zeros(len(layers))
    return ExpectedGain(
        points=_interval(gains, kinds, seed),
        by_a_quarter=_interval(by_few, kinds, seed),
        kinds=len(set(kinds)),
        labels=len(foretold) - 1,
        rate=rate,
        nats=float(per_layer.sum()),
        layers=dict(zip(layers, per_layer.tolist(), strict=True)),
    )


def answered(scores: Sequence[Sequence[float]], answer: int) -> list[tuple[float, float]]:
    """Of each row of scores whether it is right, and its loss."""
    logs = torch.tensor(scores, dtype=torch.float64).log_softmax(-1)
    return [(float(row.argmax() == answer), -float(row[answer])) for row in logs]


def _crossed(base: Floats, stepped: Floats, halves: NDArray[np.int64]) -> tuple[Floats, float]:
    """Points that each question gains at the rate that the other half loses least at, no step among them; and the rate
    that all of them would choose.

    Args:
        base: ``[N, 1, 2]`` whether right, and the loss, as the model routes.
        stepped: ``[N, R, 2]`` likewise at each rate.
        halves: ``[N]`` of each question.
    """
    tried = np.concatenate([base, stepped], 1)
    gains = np.zeros(len(tried))
    for half in (0, 1):
        best = tried[halves != half, :, 1].mean(0).argmin()
        gains[halves == half] = 100 * (tried[halves == half, best, 0] - base[halves == half, 0, 0])
    return gains, (0.0, *RATES)[int(tried[:, :, 1].mean(0).argmin())]


def _interval(gains: Floats, kinds: Sequence[str], seed: int) -> AuditInterval:
    """Over kinds of question, where there are some: questions of one kind gain together."""
    groups = [gains[[kind == one for kind in kinds]][:, None] for one in sorted(set(kinds))]
    if len(groups) < KINDS:
        alone = over_flips([gains[:, None] / 100], seed=seed)
        return AuditInterval(value=float(gains.mean()), low=100 * alone.low, high=100 * alone.high)
    found = over_units(groups, seed=seed)
    return AuditInterval(value=float(np.mean([g.mean() for g in groups])), low=found.low, high=found.high)


def in_words(found: ExpectedGain) -> str:
    """What is foretold, in a sentence."""
    points = found.points
    told = f"{points.value:+.1f} points [{points.low:.1f}, {points.high:.1f}]"
    sure = "pays" if points.low > 0 else "harms" if points.high < 0 else "is not shown to pay"
    most = sorted(found.layers, key=lambda layer: found.layers[layer], reverse=True)[:SHOWN]
    where = f", most in layers {', '.join(map(str, sorted(most)))}" if points.low > 0 else ""
    return f"A step for each question {sure} here: {told} by {found.labels} labels{where}"
