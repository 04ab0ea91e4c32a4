"""Arms side by side on the same questions: records, summary, report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from .api import reference_set_of
from .arms import Arm
from .config import Dataset, RunConfig
from .embedding import Embedder, default_embedder
from .errors import SettingError
from .models import RoutedModel, load_moe_model
from .records import Records, claim, read_records, write_whole
from .reference import ReferenceSet, fingerprint
from .registry import Registry, default_registry
from .remixer import Remixer
from .summary import summarise
from .tasks import questions as read_questions
from .tasks.formats import as_format
from .tasks.loaders import unique
from .types import Answer, Question

Progress = Callable[[str], Callable[[Iterable[Any]], Iterable[Any]]]


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
    for arm in config.arms.values():  # found out now, rather than after the first arm was run
        _strategies(arm, known)
    _baseline(config)
    data = [(d, _test(d), _references(d)) for d in config.datasets]
    claim(out, config.model_dump(mode="json"))
    records = Records(out)
    model = model or load_moe_model(config.model, dtype=config.dtype, revision=config.revision)
    embedder = default_embedder()
    for dataset, questions, labelled in data:
        references = reference_set_of(labelled, model, embedder, as_format(config.format)) if labelled else None
        for name, arm in config.arms.items():
            _run(dataset.name, name, arm, questions, references, records, config, model, embedder, known, progress)
    return conclude(out, config, hashes={"model": fingerprint(model)}, texts=[(q, r) for _, q, r in data])


def conclude(
    out: Path | str,
    config: RunConfig,
    *,
    hashes: dict[str, str],
    texts: Sequence[tuple[Sequence[Question], Sequence[Question]]],
) -> dict[str, Any]:
    """Write the summary and draw the report of a run's records."""
    from .report.html import render

    control = next((n for n, a in config.arms.items() if _name(a.retriever) == "random"), "ngd-random-neighbours")
    summary = summarise(
        read_records(out),
        config=config.model_dump(mode="json"),
        seed=config.seed,
        baseline=_baseline(config),
        control=control,
        hashes=hashes,
    )
    write_whole(Path(out) / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    asked = {q.id: q for questions, _ in texts for q in questions}
    known = {q.id: q for _, references in texts for q in references}
    render(out, asked, known)
    return summary


def texts_of(config: RunConfig) -> list[tuple[list[Question], list[Question]]]:
    """Test and reference questions of a configuration, read again from where they are."""
    return [(_test(d), _references(d)) for d in config.datasets]


def _test(dataset: Dataset) -> list[Question]:
    return read_questions(dataset.questions, split=dataset.split, limit=dataset.limit)


def _references(dataset: Dataset) -> list[Question]:
    split, limit = dataset.references_split, dataset.references_limit
    placed = [(s, q) for s in dataset.references for q in read_questions(s, split=split, limit=limit)]
    # By its id a question finds itself among the references, to leave itself out.
    return [q for _, q in unique(placed, dataset.name)] if placed else []


def _name(spec: Any) -> str:
    return spec if isinstance(spec, str) else spec["name"]


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


def _strategies(arm: Arm, registry: Registry) -> dict[str, Any]:
    roles = ("optimizer", "kernel", "retriever", "selector")
    return {role: registry.create(role, getattr(arm, role)) for role in roles}


def _run(
    dataset: str,
    name: str,
    arm: Arm,
    questions: Sequence[Question],
    references: ReferenceSet | None,
    records: Records,
    config: RunConfig,
    model: RoutedModel,
    embedder: Embedder,
    registry: Registry,
    progress: Progress,
) -> None:
    """One arm on one data set. Batches are cut from the whole list, so a resumed run computes the same batches."""
    done = {key[2] for key in records.done() if key[:2] == (name, dataset)}
    batches = [questions[i : i + config.batch_size] for i in range(0, len(questions), config.batch_size)]
    waiting = [batch for batch in batches if any(q.id not in done for q in batch)]
    if not waiting:
        return
    strategies = _strategies(arm, registry)
    remixer = Remixer(
        model,
        references,
        **strategies,
        embedder=embedder,
        format=as_format(config.format),
        scope=arm.scope,
        transfer=arm.transfer,
        target=arm.target,
        mix=cast(Literal["core", "top-k"], arm.mix),
        max_similarity=config.max_similarity,
        seed=config.seed,
    )
    setting: dict[str, Any] = {role: registry.describe(s) for role, s in strategies.items() if role in _used(remixer)}
    setting |= {"scope": arm.scope, "transfer": arm.transfer, "target": arm.target, "mix": arm.mix}
    for batch in progress(f"{dataset}: {name}")(waiting):
        for question, answer in zip(batch, remixer.answer(batch), strict=True):
            if question.id not in done:
                records.append(_record(dataset, name, question, answer, setting, config.seed))


def _used(remixer: Remixer) -> Iterator[str]:
    yield "optimizer"
    if remixer.optimizer.name != "none":
        yield "selector"
    if remixer.needs_neighbours:
        yield from ("kernel", "retriever")


def _record(
    dataset: str, arm: str, question: Question, answer: Answer, setting: dict[str, Any], seed: int
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
        "layer_scores": _rounded(answer.layer_scores),
        "pathway": {
            str(layer): {
                "own": _sparse(pathway.own[rows[layer]].tolist()),
                "new": _sparse(pathway.weights[rows[layer]].tolist()),
            }
            for layer in answer.layers
        },
        "neighbours": [{"id": i, "similarity": round(s, 4), "weight": round(w, 4)} for i, s, w in answer.neighbours],
        "cost": {k: round(v / answer.base_flops, 4) for k, v in flops.items()},
        "flops": {k: round(v) for k, v in flops.items()},
        "seconds": round(answer.seconds, 4),
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(v, 5) for v in values]


def _sparse(weights: list[float]) -> dict[str, float]:
    return {str(expert): round(w, 4) for expert, w in enumerate(weights) if w > 5e-5}
