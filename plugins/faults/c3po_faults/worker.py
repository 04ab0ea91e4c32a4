"""Answers pieces of a study of known faults: a batch of one data set by one arm of one faulty model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from c3po_adaptive import FaultTruth, Question, RoutedModel, SettingError
from c3po_adaptive.study import UNKNOWN, ComparisonWorker, Piece, Worker

from .answer import FaultAnswer, told
from .config import FaultsConfig
from .faults import Fault
from .planting import planted, truth_of

NOTHING = Fault("noise", dose=0.0)


class FaultsWorker(Worker[FaultsConfig]):
    """Plants a cell's fault when its first piece comes, and has a comparison's worker answer; the last one is kept."""

    def used(self) -> Iterator[tuple[str, Any]]:
        return self.answering().used()

    def check(self) -> None:
        self.answering().check()

    def fits(self, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
        for name, spec in self.config.faults.items():
            try:
                for dose in spec.doses:
                    spec.fault(layers, dose).fits(layers, experts or UNKNOWN)
            except SettingError as error:
                raise SettingError(f"Fault {name}: {error}") from error
        answering = self.answering()
        answering.data = self.data
        answering.fits(layers, experts, top_k)

    def check_model(self) -> None:
        site = self.model.sites[0]
        self.fits(self.model.layers, site.mixable, site.top_k)
        if self.model.fault is not None:
            raise SettingError(
                f"Expected a sound model to plant faults in, got {self.config.model}, which has one; name its base."
            )

    def rows(self, piece: Piece) -> tuple[FaultAnswer, ...]:
        cell, arm = self.config.parts[piece.arm]
        if cell not in self._cells:
            self._cells.clear()  # two at once might not fit
            self._cells[cell] = _Cell.of(self, self.fault(cell))
        found = self._cells[cell].rows(replace(piece, arm=arm))
        return tuple(row.model_copy(update={"arm": piece.arm}) for row in found)

    @cached_property
    def _cells(self) -> dict[str, _Cell]:
        return {}

    def fault(self, cell: str) -> Fault:
        """The fault of a cell."""
        known = self.config.cells[cell]
        return NOTHING if known is None else self.config.faults[known[0]].fault(self.model.layers, known[1])

    def answering(self, model: RoutedModel | None = None) -> ComparisonWorker:
        """What answers with a model that was made from this one; None: what only has to know arms and data."""
        worker = ComparisonWorker.here(self.config.comparison, self.registry, model)
        worker.places = self.places
        return worker


@dataclass(eq=False)
class _Cell:
    """A faulty model."""

    worker: ComparisonWorker
    model: RoutedModel

    @classmethod
    def of(cls, study: FaultsWorker, fault: Fault) -> _Cell:
        model = planted(study.model, fault)
        worker = study.answering(model)
        worker.data = study.data
        return cls(worker, model)

    def rows(self, piece: Piece) -> list[FaultAnswer]:
        questions, answers = self.worker.batch(piece), self.worker.answers(piece)
        recorded = self.worker.recorded(piece, answers)
        own, truth = self._truth(piece, questions)
        beside = enumerate(zip(recorded, answers, strict=True))
        return [told(record, answer, truth, b, own) for b, (record, answer) in beside]

    def _truth(self, piece: Piece, questions: Sequence[Question]) -> tuple[Tensor, FaultTruth]:
        """The model's own pathways, and what the fault did to them."""
        key = (piece.dataset, piece.batch)
        if self._known[:1] != [key]:
            format = self.worker.config.format_of(piece.dataset)
            states = self.model.prefill([self.model.encode(question, format) for question in questions])
            own = torch.stack([state.own for state in states])
            self._known[:] = [key, (own, truth_of(self.model, states))]
        found: tuple[Tensor, FaultTruth] = self._known[1]
        return found

    @cached_property
    def _known(self) -> list[Any]:
        """Of the last batch: all arms have it in turn."""
        return []
