"""Arms side by side on the same questions: records, summary, report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .api import reference_set_of
from .arms import Arm, strategies_of
from .compact import COMPACT, write_compact
from .config import Dataset, RunConfig
from .embedding import Embedder, default_embedder
from .errors import DataError, SettingError
from .loading import load_moe_model
from .models import RoutedModel
from .optimizers.base import PathwayOptimizer
from .optimizers.none import NoStep
from .practice import check_enough
from .records import Records, claim, digest, read_records, write_whole
from .reference import ReferenceSet, fingerprint
from .registry import Registry, default_registry
from .remixer import Remixer
from .selectors.base import LayerSelector
from .summary import summarise, versions
from .tasks import questions as read_questions
from .tasks.formats import as_format
from .tasks.loaders import unique
from .types import Answer, Question

SHOWN = 16  # neighbours that a record names, nearest first
Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]
Data = Sequence[tuple[Dataset, Sequence[Question], Sequence[Question]]]
"""Data sets with their questions and references."""


def evaluate(
    config: RunConfig,
    out: Path | str,
    *,
    model: RoutedModel | None = None,
    registry: Registry | None = None,
    progress: Progress = lambda label: iter,
) -> dict[str, Any]:
    """Run every arm on every data set; an interrupted run goes on where it stopped.

    Args:
        out: the run's folder: ``records.jsonl``, ``summary.json``, ``report.html``.
        model: loaded already; else from the configuration.
        progress: from a label to what wraps an iteration.

    Returns:
        The summary.

    Raises:
        DataError: the folder cannot be written or holds another run; questions or references are broken.
        SettingError, UnknownNameError: an arm that cannot be.
    """
    known = registry or default_registry()
    strategies = {name: strategies_of(arm, known) for name, arm in config.arms.items()}
    _baseline(config)
    data = [(d, questions_of(d), references_of(d)) for d in config.datasets]
    model = model or load_moe_model(
        config.model, dtype=config.dtype, device=config.device, quantize=config.quantize, revision=config.revision
    )
    for name, roles in strategies.items():  # found out now, rather than after other arms were run
        if _re_mixes(roles["optimizer"]):
            check_selector(f"Arm {name}", roles["selector"], model, data)
    inputs = inputs_of(model, data, known)
    claim(out, config.model_dump(mode="json") | {"inputs": inputs})
    records = Records(out)
    embedder = default_embedder()
    for dataset, questions, labelled in data:
        run = _Run(dataset.name, questions, labelled, config, model, embedder, known, records, progress)
        for name, arm in config.arms.items():
            run.answer(name, arm)
    return conclude(out, config, inputs, texts={d.name: (q, r) for d, q, r in data})


def conclude(
    out: Path | str,
    config: RunConfig,
    inputs: Mapping[str, Any],
    texts: Mapping[str, tuple[Sequence[Question], Sequence[Question]]],
) -> dict[str, Any]:
    """Write the summary and draw the report of a run's records.

    Args:
        inputs: what the run was claimed with beside its configuration.
        texts: test and reference questions of each data set, as far as they are at hand.
    """
    control = next((n for n, a in config.arms.items() if _name(a.retriever) == "random"), "ngd-random-neighbours")
    summary = summarise(
        read_records(out),
        config=config.model_dump(mode="json"),
        seed=config.seed,
        baseline=_baseline(config),
        control=control,
        standard=config.standard,
        headline=config.headline,
        compare=config.compare,
        inputs=inputs,
    )
    write_whole(Path(out) / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_compact(read_records(out), Path(out) / COMPACT)
    redraw(out, texts)
    return summary


def redraw(out: Path | str, texts: Mapping[str, tuple[Sequence[Question], Sequence[Question]]]) -> None:
    """Draw the report of a run's summary and records again."""
    from .report.html import render

    asked = {(name, q.id): q for name, (questions, _) in texts.items() for q in questions}
    known = {(name, q.id): q for name, (_, references) in texts.items() for q in references}
    render(out, asked, known)


def texts_of(config: RunConfig) -> dict[str, tuple[list[Question], list[Question]]]:
    """Test and reference questions of a configuration, read again from where they are."""
    return {d.name: (questions_of(d), references_of(d)) for d in config.datasets}


def inputs_of(model: RoutedModel, data: Data, registry: Registry) -> dict[str, Any]:
    """What decides a run's results beside its configuration: resumed with anything else it would be two runs in one."""
    return {
        "model": fingerprint(model),
        "questions": {d.name: digest([dataclasses.asdict(q) for q in questions]) for d, questions, _ in data},
        "references": {d.name: digest([dataclasses.asdict(q) for q in references]) for d, _, references in data},
        "plugins": registry.files,
        "versions": versions(),
    }


def questions_of(dataset: Dataset) -> list[Question]:
    """Those that are asked."""
    questions = read_questions(dataset.questions, split=dataset.split, limit=dataset.limit)
    splits = sorted({q.split for q in questions})
    if len(splits) > 1:
        raise DataError(f"Expected one split of {dataset.name!r}, got {', '.join(splits)}; name one with split: ….")
    return questions


def references_of(dataset: Dataset) -> list[Question]:
    """Those that stand beside them."""
    split, limit = dataset.references_split, dataset.references_limit
    placed = [(s, q) for s in dataset.references for q in read_questions(s, split=split, limit=limit)]
    # By its id a question finds itself among the references, to leave itself out.
    return [q for _, q in unique(placed, dataset.name)] if placed else []


def _name(spec: Any) -> str:
    return spec if isinstance(spec, str) else spec["name"]


def check_selector(what: str, selector: LayerSelector, model: RoutedModel, data: Data) -> None:
    """Refuse what the model has too few of, or the data sets have too few references for.

    Raises:
        SettingError: with ``what`` the selector is in.
    """
    try:
        selector.fits(model.layers, model.n_experts)
        for _, questions, references in data:
            known = {q.id for q in references} - {q.id for q in questions}
            check_enough(selector.learns_from, len(known), len(references))
    except SettingError as error:
        raise SettingError(f"{what}: {error}") from error


def _baseline(config: RunConfig) -> str:
    """The arm that leaves the model alone, which gains are measured against."""
    for name, arm in config.arms.items():
        spec = arm.optimizer if isinstance(arm.optimizer, dict) else {"name": arm.optimizer}
        if spec["name"] == "none" and spec.get("start", "own") == "own":
            return name
    raise SettingError(
        f"Expected an arm that leaves the model alone, as gains are measured against it, got {', '.join(config.arms)}; "
        "add base: {optimizer: none}."
    )


@dataclass(eq=False)
class _Run:
    """Arms on one data set."""

    dataset: str
    questions: Sequence[Question]
    labelled: Sequence[Question]
    config: RunConfig
    model: RoutedModel
    embedder: Embedder
    registry: Registry
    records: Records
    progress: Progress

    def answer(self, name: str, arm: Arm) -> None:
        """One arm. Batches are cut from the whole list, so a resumed run computes the same batches."""
        done, size = {key[2] for key in self.records.done() if key[:2] == (name, self.dataset)}, self.config.batch_size
        batches = [self.questions[i : i + size] for i in range(0, len(self.questions), size)]
        waiting = [batch for batch in batches if any(q.id not in done for q in batch)]
        if not waiting:
            return
        remixer, setting = self._remixer(arm)
        for batch in self.progress(f"{self.dataset}: {name}")(waiting):
            for question, answer in zip(batch, remixer.answer(batch), strict=True):
                if question.id not in done:
                    row = _record(self.dataset, name, question, answer, setting, self.config.seed)
                    row["needs_label"] = remixer.needs_label
                    self.records.append(row if self.config.pathways else row | {"pathway": {}})

    def _remixer(self, arm: Arm) -> tuple[Remixer, dict[str, Any]]:
        """The arm's remixer, and the parameters that identify it."""
        strategies = strategies_of(arm, self.registry)
        wanted = any(strategies[role].needs_neighbours for role in ("optimizer", "selector"))
        remixer = Remixer(
            self.model,
            self.references if wanted else None,
            **strategies,
            **arm.ways(),
            embedder=self.embedder,
            format=as_format(self.config.format),
            max_similarity=self.config.max_similarity,
            batch_size=self.config.batch_size,
            seed=arm.seed_in(self.config.seed),
            held_out=frozenset(q.id for q in self.questions),
        )
        setting: dict[str, Any] = {
            role: self.registry.describe(strategies[role]) for role in strategies if role in _used(remixer)
        }
        drawn = {} if arm.seed is None else {"seed": arm.seed}
        return remixer, setting | arm.ways() | {"head": self.model.head_for(arm.head)} | drawn

    @cached_property
    def references(self) -> ReferenceSet | None:
        """Built when an arm first needs them."""
        if not self.labelled:
            return None
        return reference_set_of(self.labelled, self.model, self.embedder, as_format(self.config.format))


def _used(remixer: Remixer) -> Iterator[str]:
    yield "optimizer"
    if _re_mixes(remixer.optimizer):
        yield "selector"
    if remixer.shows_neighbours:
        yield from ("kernel", "retriever")


def _re_mixes(optimizer: PathwayOptimizer) -> bool:
    """Not so the base, which has no use for a selector."""
    return not (isinstance(optimizer, NoStep) and optimizer.start == "own")


def _record(
    dataset: str,
    arm: str,
    question: Question,
    answer: Answer,
    setting: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """One row, every figure rounded to what it is good for."""
    flops = dataclasses.asdict(answer.cost) | {"total": answer.cost.total}
    pathway = answer.pathway
    rows = {layer: i for i, layer in enumerate(pathway.layers)}
    return {
        "id": question.id,
        "dataset": dataset,
        "split": question.split,
        "subject": question.subject,
        "arm": arm,
        "optimizer": setting["optimizer"]["name"],
        "selector": setting.get("selector", {}).get("name", ""),
        "setting": setting,
        "seed": seed,
        "answer": question.answer,
        "choice": answer.choice,
        "correct": answer.choice == question.answer,
        "base_choice": answer.base_choice,
        "base_correct": answer.base_choice == question.answer,
        "scores": _rounded(answer.scores),
        "base_scores": _rounded(answer.base_scores),
        "layers": list(answer.layers),
        "experts": {str(layer): list(ids) for layer, ids in answer.experts.items()},
        "strength": None if answer.strength is None else round(answer.strength, 5),
        "layer_scores": dict(zip(map(str, pathway.layers), _rounded(answer.layer_scores), strict=False)),
        "pathway": {
            str(layer): {
                "own": _sparse(pathway.own[rows[layer]].tolist()),
                "new": _sparse(pathway.weights[rows[layer]].tolist()),
            }
            for layer in answer.layers
        },
        "neighbours": [
            {"id": i, "similarity": round(s, 4), "weight": round(w, 4)} for i, s, w in answer.neighbours[:SHOWN]
        ],
        "cost": {k: round(v / answer.base_flops, 4) for k, v in flops.items()},
        "flops": {k: round(v) for k, v in flops.items()},
        "seconds": round(answer.seconds, 4),
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(v, 5) for v in values]


def _sparse(weights: list[float]) -> dict[str, float]:
    return {str(expert): round(w, 4) for expert, w in enumerate(weights) if w > 5e-5}
