"""The price of re-mixing: time and FLOPs of a re-mixed answer over those of a plain one, side by side in one run."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from c3po_adaptive.api import Optimizer
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.ledger import Ledger, summed
from c3po_adaptive.losses import right_answer_loss
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.models.tiny import tiny_moe
from c3po_adaptive.progress import Progress, silent
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.references.embedding import default_embedder
from c3po_adaptive.references.prefill_store import build_store
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import Registry, default_registry
from c3po_adaptive.routing.prefill import prefill
from c3po_adaptive.routing.scores import TailScores
from c3po_adaptive.settings import RemixSettings
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.storage.identity import routing_versions
from c3po_adaptive.storage.json_files import M, Ours, checked, read_json
from c3po_adaptive.storage.run_folder import made_by
from c3po_adaptive.study import claimed
from c3po_adaptive.tasks.formats import Format, as_format
from c3po_adaptive.tasks.question_files import demo_questions
from c3po_adaptive.types import Answer, Question

from .config import Case, Shape, SpeedConfig
from .draw import page, picture
from .rows import SpeedSummary, TimedCase, TimedSearch
from .search import timed_search

TEXTBOOK_STEPS = 2


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition, re-mixed and plain in turns, a re-mixed batch, and the FLOPs that it took."""

    remixed: Sequence[float]
    plain: Sequence[float]
    answers: Sequence[Answer]
    flops: float

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.remixed, self.plain, strict=True)]


def run_speed(
    config: SpeedConfig, out: Path | str, *, registry: Registry | None = None, progress: Progress = silent
) -> SpeedSummary:
    """Time every case, and write ``summary.json``, ``report.html`` and ``ratios.svg``; finished cases are kept."""
    known = registry or default_registry()
    list(strategies_of(config, known))
    with claimed(Path(out), config.model_dump(mode="json", exclude={"only"})):
        return _run(config, Path(out), known, progress)


def _run(config: SpeedConfig, out: Path, known: Registry, progress: Progress) -> SpeedSummary:
    rows, searches = _finished(out / "rows.json", TimedCase), _finished(out / "searches.json", TimedSearch)
    with tempfile.TemporaryDirectory(dir=out, prefix="materials-") as folder:
        materials = _Materials(config.models, Path(folder))
        done = {row.case for row in rows}
        waiting = [(name, case) for name, case in config.all_cases().items() if name not in done]
        for name, case in progress(waiting, "cases"):
            rows.append(_row(name, case, materials, known, config.repeats, progress))
            _keep(out / "rows.json", rows)
    for name, search in config.searches.items():
        if config.wanted(name) and name not in {row.search for row in searches}:
            searches.append(timed_search(name, search, known))
            _keep(out / "searches.json", searches)
    summary = SpeedSummary(
        repeats=config.repeats,
        threads=torch.get_num_threads(),
        versions=routing_versions(),
        rows=tuple(_beside_textbook(rows)),
        searches=tuple(searches),
    )
    write_text(out / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_text(out / "report.html", page(summary, made_by(out)))
    if summary.single:
        write_text(out / "ratios.svg", picture(summary))
    return summary


def strategies_of(config: SpeedConfig, registry: Registry) -> Iterator[tuple[str, Any]]:
    """Every strategy that is timed, with its role.

    Raises:
        UnknownNameError: a name, or a preset, that does not exist.
        SettingError: a parameter that does not exist, or a value that it cannot have.
    """
    for case in config.all_cases().values():
        for role, spec in case.specs.items():
            yield role, registry.create(role, spec)
    for name, search in config.searches.items():
        if config.wanted(name):
            yield "retriever", registry.create("retriever", search.retriever)


def _keep(path: Path, rows: Sequence[Ours]) -> None:
    write_text(path, json.dumps([row.model_dump(mode="json") for row in rows], indent=1))


def _finished(path: Path, kind: type[M]) -> list[M]:
    if not path.is_file():
        return []
    remedy = "delete the file, and what it held is timed again"
    rows = read_json(path, remedy)
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of rows, got {type(rows).__name__}; {remedy}.")
    return [checked(kind, row, f"{path}, index {i}", remedy) for i, row in enumerate(rows)]


def _beside_textbook(rows: Sequence[TimedCase]) -> Iterator[TimedCase]:
    """With how much less the re-mixing part takes than the textbook's."""
    textbook = next((row for row in rows if row.textbook), None)
    for row in rows:
        if textbook is not None and not row.textbook and row.compared == textbook.compared:
            times = round(textbook.added_seconds / row.added_seconds, 1)
            row = row.model_copy(update={"textbook_over_this": times})
        yield row


def _row(
    name: str, case: Case, materials: _Materials, registry: Registry, repeats: int, progress: Progress
) -> TimedCase:
    setup = _Setup(case, materials, registry)
    timing = setup.timed(repeats, name, progress)
    ledger = sum((a.ledger for a in timing.answers), Ledger())
    ratio = statistics.median(timing.ratios)
    flops = timing.flops / ledger.cost.prefill
    return TimedCase(
        case=name,
        model=case.model,
        ratio=round(ratio, 3),
        ratio_min=round(min(timing.ratios), 3),
        ratio_max=round(max(timing.ratios), 3),
        flops_ratio=round(flops, 3),
        over_flops=round(ratio / flops, 3),
        n=len(timing.answers),
        prompt_tokens=round(statistics.mean(len(setup.prompt(q).ids) for q in setup.asked), 1),
        plain_seconds=round(statistics.median(timing.plain) / len(timing.answers), 4),
        added_seconds=round(statistics.median(timing.plain) * (ratio - 1) / len(timing.answers), 4),
        phases={k: round(v.seconds / len(timing.answers), 5) for k, v in vars(ledger).items()},
        textbook=case.textbook,
        compared=(case.model, case.format, case.shots),
    )


class _Materials:
    """Models and reference sets, made once for all cases that share them."""

    def __init__(self, shapes: Mapping[str, Shape], folder: Path) -> None:
        self.shapes, self.folder = shapes, folder
        self._models: dict[str, RoutedModel] = {}
        self._sets: dict[Any, ReferenceSet] = {}

    def model(self, name: str) -> RoutedModel:
        """The last one that was asked for is kept: two large ones might not fit."""
        if name not in self._models:
            self._models = {name: self._made(name)}
        return self._models[name]

    def _made(self, name: str) -> RoutedModel:
        if name not in self.shapes:
            return load_moe_model(name)
        shape = self.shapes[name]
        made = tiny_moe(shape.family, **{"initializer_range": 0.02, **shape.settings})
        return RoutedModel(made.to(getattr(torch, shape.dtype)), load_moe_model().tokenizer, name=name)

    def references(self, case: Case, format: Format) -> ReferenceSet:
        """With their states on disk."""
        key = (case.model, case.format, case.shots, case.references)
        if key not in self._sets:
            place, model = self.folder / str(len(self._sets)), self.model(case.model)
            labeled = demo_questions("references")[case.shots :][: case.references]
            built = build_reference_set(model, labeled, default_embedder(), format=format)
            built.save(place)
            build_store(built, model, place / "warm", format=format)
            self._sets[key] = ReferenceSet.load(place)
        return self._sets[key]


class _Setup:
    """A case made ready: references built, optimizers of both kinds."""

    def __init__(self, case: Case, materials: _Materials, registry: Registry) -> None:
        self.case, self.model, self.embedder = case, materials.model(case.model), default_embedder()
        shots = tuple(demo_questions("references")[: case.shots])
        self.format: Format = as_format({"name": case.format, "shots": shots})
        self.asked: Sequence[Question] = demo_questions("test", limit=case.batch)
        references = materials.references(case, self.format)
        if not case.warm:
            references = replace(references, folder=None)
        common: dict[str, Any] = {"format": self.format, "registry": registry, "embedder": self.embedder}
        usual: dict[str, Any] = common | {"settings": RemixSettings(scope=case.scope)}
        own: dict[str, Any] = common | {"preset": case.preset} if case.preset else usual | {**case.specs}
        self.plain = Optimizer(self.model, optimizer="none", selector={"name": "fixed", "n": 0}, **usual)
        self.remixed = Optimizer(self.model, refset=references, **own)
        for optimizer in (self.plain, self.remixed):
            optimizer.remixer = replace(optimizer.remixer, batch_size=case.batch)

    def prompt(self, question: Question) -> Any:
        return self.model.encode(question, self.format)

    def timed(self, repeats: int, name: str, progress: Progress) -> Timing:
        """Both ways in turns, after one of each that does not count."""
        remixed: list[float] = []
        plain: list[float] = []
        answers = self._answers(self.remixed)
        self._answers(self.plain)
        for _ in progress(range(repeats), name):
            with _seconds(plain):
                self._answers(self.plain)
            if self.case.textbook:
                plainly = plain[-1]
                step, tails = self._textbook(answers)
                with _seconds(remixed):
                    for _ in range(TEXTBOOK_STEPS):
                        step()
                steps = self.remixed.remixer.strategies.optimizer.steps  # type: ignore[attr-defined]
                remixed[-1] = plainly + remixed[-1] * steps / TEXTBOOK_STEPS
            else:
                with _seconds(remixed):
                    answers = self._answers(self.remixed)
        cost = sum((a.ledger for a in answers), Ledger()).cost
        flops = cost.total - (cost.references if self.case.warm else 0.0)  # those are kept
        if self.case.textbook:
            flops += summed(tails.spent).flops * steps / TEXTBOOK_STEPS - cost.optimisation
        return Timing(remixed, plain, answers, flops)

    def _answers(self, optimizer: Optimizer) -> list[Answer]:
        """As if the questions were new: nothing of them is kept from before."""
        self.model._states.clear()
        self.embedder.forget()
        return optimizer.answer(list(self.asked))

    def _textbook(self, answers: Sequence[Answer]) -> tuple[Callable[[], None], TailScores]:
        """One step of NGD: forward and backward pass of the neighbours' whole prompts, from the first layer on."""
        whole = tuple(replace(site, entered=False) for site in self.model.sites)
        by_id = {q.id: q for q in self._candidates()}
        near = [(b, by_id[i]) for b, answer in enumerate(answers) for i, _, _ in answer.neighbours]
        prompts = [self.prompt(question) for _, question in near]
        states = prefill(self.model.model, whole, prompts, self.model.flops, "whole")
        pathways = [answer.pathway for answer in answers if answer.pathway is not None]
        own = torch.stack([pathway.own for pathway in pathways])
        active = torch.stack([pathway.changed() for pathway in pathways])
        support = torch.stack([pathway.router for pathway in pathways]) > 0
        sample, labels = torch.tensor([b for b, _ in near]), torch.tensor([q.answer for _, q in near])
        tails = TailScores(self.model.model, whole, self.model.flops, states, sample, own, active, support | (own > 0))

        def step() -> None:
            weights = own.clone().requires_grad_()
            torch.autograd.grad(right_answer_loss(tails(weights), labels, "choices").sum(), weights)

        return step, tails

    def _candidates(self) -> Sequence[Question]:
        found = self.remixed.remixer.candidates
        if found is None:
            raise SettingError("Expected an optimizer with neighbours for the textbook case, got one without.")
        return found.questions


@contextmanager
def _seconds(into: list[float]) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)
