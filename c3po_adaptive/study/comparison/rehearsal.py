"""A comparison rehearsed: every arm on a few questions, on a narrow model that counts FLOPs by the real one's sizes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...errors import C3POError
from ...ledger import Ledger
from ...models.routed import RoutedModel
from ...progress import Progress, silent
from ...references.build import build_reference_set
from ...references.reference_set import ReferenceSet
from ...registry import Registry
from ...tasks.formats import format_key
from ...types import Answer
from ..data import Asked, Data, spread
from ..executor import Piece
from ..needs import ArmNeeds, SetNeeds
from .config import ComparisonConfig
from .worker import ComparisonWorker

QUESTIONS = 8  # of a data set that are asked, at most
REFERENCES = 24  # that are run at least, and four times as many, again and again, where an arm needs more


class Rehearsal(ComparisonWorker):
    """Answers as a run would; its reference sets stand in a folder that goes with it, and all are taken for right."""

    folder: Path
    seconds: dict[str, float]
    size: int

    def reference_set(self, dataset: str) -> ReferenceSet:
        began = time.perf_counter()
        format, labeled = self.config.format_of(dataset), self.data[dataset].references
        built = build_reference_set(self.model, labeled, self.embedder, format=format)
        self.seconds[dataset] = time.perf_counter() - began
        built = replace(built, correct=torch.ones(len(built), dtype=torch.bool))
        return replace(built, folder=built.save(self.folder / dataset))


def rehearse(
    config: ComparisonConfig, data: Data, registry: Registry, model: RoutedModel, progress: Progress = silent
) -> tuple[list[ArmNeeds], dict[str, SetNeeds]]:
    """What each arm takes on each data set, and the references of each.

    Args:
        config: of the study.
        data: its questions and references.
        registry: of its strategies.
        model: a narrow one.
        progress: shows how many data sets are rehearsed.

    Raises:
        C3POError: an arm that fails on all references, too.
    """
    arms: list[ArmNeeds] = []
    sets: dict[str, SetNeeds] = {}
    pools: set[Any] = set()
    for name, asked in progress(data.items(), "rehearsing", len(data)):
        pool = (tuple(asked.references), str(format_key(config.format_of(name)))) if asked.references else None
        with _rehearsal(config, registry, model) as rehearsal:
            needs = [_arm(rehearsal, name, arm, asked) for arm in config.arms]
            if pool in pools:  # of data sets with one pool the first pays for it
                needs = [replace(one, kept=0.0, learned=0.0) for one in needs]
            elif pool:
                sets[name] = _set(rehearsal, name, asked)
        arms += needs
        pools.add(pool)
    return arms, sets


@contextmanager
def _rehearsal(config: ComparisonConfig, registry: Registry, model: RoutedModel) -> Iterator[Rehearsal]:
    made = Rehearsal.here(config, registry, model)
    with tempfile.TemporaryDirectory(prefix="c3po-plan-") as folder:
        made.folder, made.seconds = Path(folder), {}
        made.size = max(REFERENCES, *(_wanted(made, arm) for arm in config.arms))
        made.data = {}
        yield made


def _arm(rehearsal: Rehearsal, dataset: str, arm: str, asked: Asked) -> ArmNeeds:
    """On so many references as it can do with."""
    questions = spread(asked.questions, min(QUESTIONS, rehearsal.config.batch_size))
    while True:
        some = spread(asked.references, rehearsal.size)
        _use(rehearsal, dataset, Asked(questions, some))
        try:
            return _answered(rehearsal, dataset, arm, asked)
        except C3POError:
            if len(some) == len(asked.references):
                raise
            rehearsal.size *= 4


def _wanted(rehearsal: Rehearsal, arm: str) -> int:
    """How many references an arm's strategies look at for one question, or learn from."""
    strategies = rehearsal.registry.strategies(rehearsal.config.arms[arm].specs)
    retriever: Any = strategies.retriever
    near = max(getattr(retriever, "k", 0), 4 * getattr(retriever, "limit", 0))  # a radius holds a few of all
    return int(near + strategies.references_needed)


def _use(rehearsal: Rehearsal, dataset: str, some: Asked) -> None:
    """These questions and references from now on; what was made of others goes."""
    if rehearsal.data.get(dataset) != some:
        rehearsal.data[dataset] = some
        for made in (rehearsal._built, rehearsal._ready, rehearsal._plain):
            made.clear()


def _answered(rehearsal: Rehearsal, dataset: str, arm: str, asked: Asked) -> ArmNeeds:
    piece = Piece(dataset, arm, 0)
    answers, some = rehearsal.answers(piece), rehearsal.data[dataset]
    rows = rehearsal.recorded(piece, answers)
    draws, optimizer = rehearsal.config.arms[arm].draws, rehearsal.bench(piece).strategies.optimizer
    number, size = len(asked.questions) * draws, rehearsal.config.batch_size
    more = len(asked.references) / max(1, len(some.references))
    total = sum((answer.ledger for answer in answers), Ledger())
    work = max((getattr(total, phase) for phase in ("attribution", "optimisation")), key=lambda entry: entry.flops)
    once, kept = _once(rehearsal, answers)
    return ArmNeeds(
        dataset,
        arm,
        number,
        draws,
        _times(total, number / len(answers)),
        kept * more,
        once * draws * (1 if rehearsal.config.arms[arm].name_of("answerer") == "remix" else more),
        number * sum(len(row.model_dump_json()) + 1 for row in rows) / len(rows),
        work.forward.total / max(1, getattr(optimizer, "steps", 1)) * min(size, number) / len(answers),
    )


def _once(rehearsal: Rehearsal, answers: Sequence[Answer]) -> tuple[float, float]:
    """What was learned once, and what was kept of each reference, both beyond the references' prompts."""
    once, kept = answers[0].once, answers[0].kept
    ((dataset, asked),) = rehearsal.data.items()
    format = rehearsal.config.format_of(dataset)
    prompts = sum(rehearsal.model.plain_work(rehearsal.model.encode(q, format)).flops for q in asked.references)
    return max(0.0, once - max(kept, prompts)), max(0.0, kept - prompts)


def _times(ledger: Ledger, factor: float) -> Ledger:
    return Ledger(**{phase: entry.times(factor) for phase, entry in vars(ledger).items()})


def _set(rehearsal: Rehearsal, dataset: str, asked: Asked) -> SetNeeds:
    some, format = rehearsal.data[dataset], rehearsal.config.format_of(dataset)
    more = len(asked.references) / len(some.references)
    prompts = spread(asked.references, 64)
    flops = sum(rehearsal.model.plain_work(rehearsal.model.encode(q, format)).flops for q in prompts)
    files = [file for file in rehearsal.folder.rglob("*") if file.is_file()]
    return SetNeeds(
        flops * len(asked.references) / len(prompts),
        rehearsal.seconds.get(dataset, 0.0) * more,
        more * sum(file.stat().st_size for file in files),
    )
