"""A study of faithfulness: every score of layers beside what re-mixing each of them really does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..api import reference_set_of
from ..arms import strategies_of
from ..attribution import METHODS
from ..config import Dataset, FaithfulnessConfig
from ..embedding import default_embedder
from ..errors import DataError, SettingError
from ..evaluate import check_selector, inputs_of, questions_of, references_of
from ..loading import load_moe_model
from ..models import RoutedModel
from ..optimizers.base import PathwayOptimizer
from ..practice import ReferencePractice
from ..problem import LabelledProblem
from ..records import Records, claim, read_records, write_whole
from ..reference import ReferenceSet
from ..registry import Registry, default_registry
from ..remixer import Remixer
from ..selectors.attribution import Attribution
from ..selectors.causal import Causal
from ..selectors.scored import Scored
from ..tasks.formats import as_format
from ..types import Question
from .curves import Curves
from .metrics import infidelity, rank_correlation, sensitivity
from .summary import CONTROLS, summarise
from .truth import WHOSE, truth

Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]
TRUTH = "truth"
"""The arm of records that hold what each layer really does."""


def run_faithfulness(
    config: FaithfulnessConfig,
    out: Path | str,
    *,
    model: RoutedModel | None = None,
    registry: Registry | None = None,
    progress: Progress = lambda label: iter,
) -> dict[str, Any]:
    """Re-mix every layer of every question alone and left out, score layers, and write what comes out.

    An interrupted study goes on where it stopped. ``out`` gets ``records.jsonl`` (a row for each question and score),
    ``summary.json`` and ``report.html``.

    Raises:
        SettingError: a score that is no selector with scores. DataError: broken questions, or another run's folder.
    """
    known = registry or default_registry()
    scores = {name: _scored(known, spec, config.experts) for name, spec in config.scores.items()}
    _check_neighbours(strategies_of(config.arm, known)["optimizer"], scores)
    data = [(d, questions_of(d), references_of(d)) for d in config.datasets]
    model = model or load_moe_model(
        config.model, dtype=config.dtype, device=config.device, quantize=config.quantize, revision=config.revision
    )
    _check_numbers(config, len(model.layers), model.n_experts)
    for name, selector in scores.items():
        check_selector(f"Score {name}", replace(selector, n=0), model, data)  # it chooses none
    inputs = inputs_of(model, data, known)
    claim(out, config.model_dump(mode="json") | {"inputs": inputs})
    records = Records(out)
    for dataset, asked, labelled in data:
        _DataSet(config, dataset, asked, labelled, model, known, scores, records).run(progress(dataset.name))
    summary = summarise(read_records(out), config, model.layers) | {"hashes": inputs}
    write_whole(Path(out) / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    redraw(out)
    return summary


def redraw(out: Path | str) -> None:
    """Draw the report of a study's summary.

    Raises:
        DataError: there is none: the study was interrupted.
    """
    from ..report.faithfulness import draw

    path = Path(out) / "summary.json"
    if not path.is_file():
        raise DataError(f"Expected a study that was run to the end, got {out} without {path.name}; run it again.")
    write_whole(Path(out) / "report.html", draw(json.loads(path.read_text(encoding="utf-8"))))


def _check_numbers(config: FaithfulnessConfig, layers: int, experts: int) -> None:
    if config.n > layers or config.points[-1] >= layers or config.experts > experts:
        raise SettingError(
            f"Expected n of at most {layers} and points below it (the model's MoE layers), and experts of at most "
            f"{experts}, got n={config.n}, points {list(config.points)} and experts={config.experts}."
        )


def _check_neighbours(optimizer: PathwayOptimizer, scores: Mapping[str, Scored]) -> None:
    wanting = [name for name, selector in scores.items() if selector.needs_neighbours]
    if wanting and not optimizer.needs_neighbours:
        raise SettingError(
            f"Expected an arm that re-mixes by neighbours, as {', '.join(wanting)} look at them, got {optimizer.name}; "
            "name another optimizer, or leave those scores out."
        )


def _scored(registry: Registry, spec: Any, experts: int) -> Scored:
    selector = registry.create("selector", spec)
    if not isinstance(selector, Scored):
        raise SettingError(f"Expected selectors that score layers, got {selector.name!r}, which does not.")
    if isinstance(spec, dict) and spec.get("experts", experts) != experts:
        raise SettingError(f"Expected {experts} experts in every score, as they are re-mixed, got {spec}; set experts.")
    return replace(selector, experts=experts)


@dataclass(eq=False)
class _DataSet:
    config: FaithfulnessConfig
    dataset: Dataset
    asked: Sequence[Question]
    labelled: Sequence[Question]
    model: RoutedModel
    registry: Registry
    scores: Mapping[str, Scored]
    records: Records

    def run(self, progress: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        done = {key[2] for key in self.records.done() if key[:2] == (TRUTH, self.dataset.name)}
        size = self.config.batch_size
        batches = [(i, self.asked[i : i + size]) for i in range(0, len(self.asked), size)]
        for first, part in progress([b for b in batches if any(q.id not in done for q in b[1])]):
            self._batch(part, probed=first < self.config.probed)

    def _batch(self, asked: Sequence[Question], *, probed: bool) -> None:
        batch = self.whole.labelled(asked)
        problem = cast(LabelledProblem, batch.problem(labelled=True))
        whose = WHOSE if self.config.neighbours else WHOSE[:1]
        found = truth(problem, self.whole.optimizer, self.config.experts, whose)
        curves = Curves(problem, found.everywhere)
        for name, selector in self.prepared.items():
            with batch.clock(name):
                values = selector.score(batch.problem(labelled=selector.needs_label))[0].detach()
            rows = self._scored(curves, values)
            spent = [
                entry.flops / state.work.flops for entry, state in zip(batch.spent(name), batch.states, strict=True)
            ]
            rows["cost"] = [round(x, 4) for x in spent]
            bound = selector.needs_label or isinstance(selector, Causal)
            rows["role"] = ["bound" if bound else "method"] * len(asked)
            if probed:
                rows |= self._stability(selector, values, problem, asked)
            if probed and isinstance(selector, Attribution):
                rows |= self._captum(selector, problem)
            self._write(name, asked, rows)
        for name, values in zip(CONTROLS, _controls(problem), strict=True):
            self._write(name, asked, self._scored(curves, values) | {"cost": [0.0] * len(asked)})
        # last, as it says that the batch is done
        effects = [{name: _plain(values[b]) for name, values in found.effects.items()} for b in range(len(asked))]
        self._write(TRUTH, asked, {"effects": effects, "together": _plain(found.together)})

    def _scored(self, curves: Curves, values: Tensor) -> dict[str, list[Any]]:
        points = self.config.points
        return {
            "values": [_plain(v) for v in values],
            "insertion": [_plain(v) for v in curves.insertion(values, points)],
            "deletion": [_plain(v) for v in curves.deletion(values, points)],
        }

    def _stability(
        self, selector: Scored, values: Tensor, problem: LabelledProblem, asked: Sequence[Question]
    ) -> dict[str, list[Any]]:
        """Rank correlation of scores with neighbours from either half of the references, and with another seed."""
        rows: dict[str, list[Any]] = {}
        # what learned from all references would be compared with itself
        if selector.needs_neighbours and not selector.needs_label and not selector.learns_from:
            halves = [cast(LabelledProblem, half.labelled(asked).problem(labelled=True)) for half in self.halves]
            rows["other_neighbours"] = _same(*(selector.score(half.unlabelled())[0] for half in halves))
        if isinstance(selector, Attribution) and METHODS[selector.method].drawn:
            again = replace(selector, seed=selector.seed + 1)
            rows["other_seed"] = _same(values, again.score(problem.unlabelled())[0])
        return rows

    def _captum(self, selector: Attribution, problem: LabelledProblem) -> dict[str, list[Any]]:
        plain, moves, seed = problem.unlabelled(), self.config.moves, self.config.seed
        return {
            "infidelity": _plain(infidelity(plain, selector, moves, seed)),
            "sensitivity": _plain(sensitivity(plain, selector, max(1, moves // 4), seed)),
        }

    def _write(self, name: str, asked: Sequence[Question], rows: Mapping[str, Sequence[Any]]) -> None:
        done = self.records.done()
        for b, question in enumerate(asked):
            row = {"arm": name, "dataset": self.dataset.name, "id": question.id, "seed": self.config.seed}
            if (name, self.dataset.name, question.id, self.config.seed) not in done:
                kind = {"kind": question.subject or question.task}
                self.records.append(row | kind | {key: values[b] for key, values in rows.items()})

    @cached_property
    def prepared(self) -> dict[str, Scored]:
        """What has to learn has learned from all references."""
        return {name: selector.prepare(ReferencePractice(self.whole)) for name, selector in self.scores.items()}

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
        return reference_set_of(self.labelled, self.model, default_embedder(), as_format(self.config.format))

    def _remixer(self, references: ReferenceSet) -> Remixer:
        c = self.config
        return Remixer(
            self.model,
            references,
            **strategies_of(c.arm, self.registry) | {"selector": self.registry.create("selector", "fixed")},
            **c.arm.ways(),
            embedder=default_embedder(),
            format=as_format(c.format),
            max_similarity=c.max_similarity,
            batch_size=c.batch_size,
            seed=c.arm.seed_in(c.seed),
            held_out=frozenset(q.id for q in self.asked),
        )


def _controls(problem: LabelledProblem) -> tuple[Tensor, Tensor]:
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
