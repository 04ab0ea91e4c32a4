"""Computes pieces of a study of faithfulness: a batch of questions, all scores and the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from c3po_adaptive import (
    Attribution,
    LabeledProblem,
    Question,
    ReferenceSet,
    Registry,
    Remixer,
    RoutedModel,
    ScoredLayers,
    SettingError,
    Strategies,
    bar,
    load_moe_model,
)
from c3po_adaptive.study import UNKNOWN, Piece, Worker

from .config import CORE, FaithfulnessConfig
from .curves import Curves
from .exchanged_routers import ExchangedRouters
from .layer_effects import WHOSE, truth
from .metrics import infidelity, rank_correlation, sensitivity
from .record import ScoreRecord
from .single_layer import Causal
from .summary import CONTROLS, TRUTH


class FaithfulnessWorker(Worker[FaithfulnessConfig]):
    """Prepares a data set's references when its first piece comes; the last ones are kept."""

    @cached_property
    def strategies(self) -> Strategies:
        """The arm's; its selector is not used."""
        return self.registry.strategies(self.config.arm.specs | {"selector": "fixed"})

    @cached_property
    def scores(self) -> dict[str, ScoredLayers]:
        """Selectors that score layers, by name."""
        return {name: _scored(self.registry, spec, self.config.experts) for name, spec in self.config.scores.items()}

    @cached_property
    def exchanged(self) -> ExchangedRouters | None:
        """This model and the one beside it, if there is one."""
        if self.config.beside is None:
            return None
        device = str(self.model.model.device)
        return ExchangedRouters(
            self.model, load_moe_model(self.at(self.config.beside), dtype=self.config.dtype, device=device)
        )

    @property
    def other_models(self) -> Mapping[str, RoutedModel]:
        return {} if self.exchanged is None else {"beside": self.exchanged.other}

    def used(self) -> Iterator[tuple[str, Any]]:
        yield from ((f.name, getattr(self.strategies, f.name)) for f in fields(self.strategies))
        yield from (("selector", selector) for selector in self.scores.values())

    def check(self) -> None:
        """Refuse what cannot be, whatever the model.

        Raises:
            SettingError: a score that is no selector with scores, or looks at neighbours that the arm does not have.
            UnknownNameError: a name that does not exist.
        """
        optimizer = self.strategies.optimizer
        wanting = [name for name, selector in self.scores.items() if selector.needs_neighbours]
        if wanting and not optimizer.needs_neighbours:
            raise SettingError(
                f"Expected an arm that re-mixes by neighbours, as {', '.join(wanting)} look at them, got "
                f"{optimizer.name}; name another optimizer, or leave those scores out."
            )

    def fits(self, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
        experts = experts or UNKNOWN
        self._check_numbers(len(layers), experts)
        if others := sorted({*self.config.marked} - {*layers}):
            raise SettingError(f"Expected marked layers among the MoE layers {list(layers)}, got {others}.")
        needed = self.strategies.optimizer.references_needed
        for name, selector in self.scores.items():
            try:
                replace(selector, n=0).fits(layers, experts)  # it chooses none
                self.check_references(needed + selector.references_needed)
            except SettingError as error:
                raise SettingError(f"Score {name}: {error}") from error

    def _check_numbers(self, layers: int, experts: int) -> None:
        n, points, wanted = self.config.n, list(self.config.points), self.config.experts
        if n > layers or points[-1] >= layers or (wanted > experts and wanted != CORE):
            raise SettingError(
                f"Expected n of at most {layers} and points below it (the model's MoE layers), and experts of at most "
                f"{experts}, got n={n}, points {points} and experts={wanted}."
            )

    def rows(self, piece: Piece) -> tuple[ScoreRecord, ...]:
        if piece.dataset not in self._tables:
            self._tables.clear()  # two at once might not fit
            self._tables[piece.dataset] = _DataSet(self, piece.dataset)
        probed = piece.batch * self.config.batch_size < self.config.probed
        return tuple(self._tables[piece.dataset].rows(self.batch(piece), probed=probed))

    @cached_property
    def _tables(self) -> dict[str, _DataSet]:
        return {}


@dataclass(eq=False)
class _DataSet:
    worker: FaithfulnessWorker
    dataset: str

    @property
    def config(self) -> FaithfulnessConfig:
        return self.worker.config

    def rows(self, asked: Sequence[Question], *, probed: bool) -> list[ScoreRecord]:
        """Of one batch; the truth last, as it says that the batch is done."""
        done: list[ScoreRecord] = []
        began = time.perf_counter()
        batch = self.whole.labeled(asked)
        problem = cast(LabeledProblem, batch.problem(labeled=True))
        whose = WHOSE if self.config.neighbours else WHOSE[:1]
        found = truth(problem, self.whole.strategies.optimizer, self.config.experts, whose)
        curves = Curves(problem, found.everywhere)
        for name, selector in bar([*self.prepared.items()], f"{len(asked)} questions: scores of layers"):
            with batch.clock(name):
                told = batch.problem(labeled=selector.needs_label, told=selector.needs_truth)
                values = selector.score(told)[0].detach()
            rows = self._scored(curves, values)
            spent = [
                entry.flops / state.work.flops
                for entry, state in zip(batch.spending.of(name), batch.states, strict=True)
            ]
            rows["cost"] = [round(x, 4) for x in spent]
            bound = selector.needs_label or selector.needs_truth or isinstance(selector, Causal)
            rows["role"] = ["bound" if bound else "method"] * len(asked)
            if probed:
                rows |= self._stability(selector, values, problem, asked)
            if probed and isinstance(selector, Attribution):
                rows |= self._captum(selector, problem)
            done += self._rows(name, asked, rows)
        for name, values in zip(CONTROLS, _controls(problem), strict=True):
            done += self._rows(name, asked, self._scored(curves, values) | {"role": ["control"] * len(asked)})
        exchanged, prompts = self.worker.exchanged, [state.prompt for state in batch.states]
        if exchanged is not None:
            found.effects.update(exchanged.effects(prompts, problem.answers, self.config.arm.remixing.loss))
        effects = [{name: _plain(values[b]) for name, values in found.effects.items()} for b in range(len(asked))]
        seconds = [round((time.perf_counter() - began) / len(asked), 4)] * len(asked)
        rows = {"effects": effects, "together": _plain(found.together), "seconds": seconds}
        return done + self._rows(TRUTH, asked, rows)

    def _scored(self, curves: Curves, values: Tensor) -> dict[str, list[Any]]:
        points = self.config.points
        return {
            "values": [_plain(v) for v in values],
            "insertion": [_plain(v) for v in curves.insertion(values, points)],
            "deletion": [_plain(v) for v in curves.deletion(values, points)],
        }

    def _stability(
        self, selector: ScoredLayers, values: Tensor, problem: LabeledProblem, asked: Sequence[Question]
    ) -> dict[str, list[Any]]:
        """Rank correlation of scores with neighbours from either half of the references, and with another seed."""
        rows: dict[str, list[Any]] = {}
        # what learned from all references would be compared with itself
        if selector.needs_neighbours and not selector.needs_label and not selector.references_needed:
            halves = [cast(LabeledProblem, half.labeled(asked).problem(labeled=True)) for half in self.halves]
            rows["other_neighbours"] = _same(*(selector.score(half.unlabeled())[0] for half in halves))
        if isinstance(selector, Attribution) and selector.drawn:
            again = replace(selector, seed=selector.seed + 1)
            rows["other_seed"] = _same(values, again.score(problem.unlabeled())[0])
        return rows

    def _captum(self, selector: Attribution, problem: LabeledProblem) -> dict[str, list[Any]]:
        plain, moves, seed = problem.unlabeled(), self.config.moves, self.config.seed
        return {
            "infidelity": _plain(infidelity(plain, selector, moves, seed)),
            "sensitivity": _plain(sensitivity(plain, selector, max(1, moves // 4), seed)),
        }

    def _rows(self, name: str, asked: Sequence[Question], rows: Mapping[str, Sequence[Any]]) -> list[ScoreRecord]:
        return [
            ScoreRecord(
                arm=name,
                dataset=self.dataset,
                id=question.id,
                seed=self.config.seed,
                kind=question.subject or question.task,
                **{key: values[b] for key, values in rows.items()},
            )
            for b, question in enumerate(asked)
        ]

    @cached_property
    def prepared(self) -> dict[str, ScoredLayers]:
        """What has to learn has learned from all references."""
        return {name: selector.prepare(self.whole.training) for name, selector in self.worker.scores.items()}

    @cached_property
    def whole(self) -> Remixer:
        """With all references."""
        return self._remixer(self._references)

    @cached_property
    def halves(self) -> list[Remixer]:
        """With either half of the references, so that no neighbour is in both; they share what is kept of each."""
        rows, folder = torch.arange(len(self._references)), self._references.folder
        parts = [self._references.subset(rows[rows % 2 == i]) for i in (0, 1)]
        return [self._remixer(replace(part, folder=folder)) for part in parts]

    @cached_property
    def _references(self) -> ReferenceSet:
        return self.worker.reference_set(self.dataset)

    def _remixer(self, references: ReferenceSet) -> Remixer:
        return Remixer(
            self.worker.model,
            references,
            self.worker.strategies,
            self.worker.embedder,
            self.config.format_of(self.dataset),
            self.config.arm.remixing,
            self.config.batch_size,
            self.worker.data[self.dataset].held_out,
        )


def _scored(registry: Registry, spec: Any, experts: int) -> ScoredLayers:
    selector = registry.create("selector", spec)
    if not isinstance(selector, ScoredLayers):
        raise SettingError(f"Expected selectors that score layers, got {selector.name!r}, which does not.")
    if isinstance(spec, dict) and spec.get("experts", experts) != experts:
        raise SettingError(f"Expected {experts} experts in every score, as they are re-mixed, got {spec}; set experts.")
    return replace(selector, experts=experts)


def _controls(problem: LabeledProblem) -> tuple[Tensor, Tensor]:
    """Scores ``[B, L]`` of ``CONTROLS``."""
    layers = len(problem.layers)
    last = torch.arange(layers, dtype=torch.float32).expand(len(problem.own), layers)
    return last, torch.stack([torch.rand(layers, generator=g) for g in problem.generators])


def _same(one: Tensor, other: Tensor) -> list[float]:
    return [
        round(float(x), 4) for x in rank_correlation(one.detach().double().numpy(), other.detach().double().numpy())
    ]


def _plain(values: Tensor) -> list[float]:
    return [float(f"{x:.5g}") for x in values.tolist()]
