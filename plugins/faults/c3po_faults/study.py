"""Studies of known faults as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from c3po_adaptive.study import Footprint, Piece, Records, StudyOnQuestions, Table

from .answer import FaultAnswer
from .config import FaultsConfig
from .page import page
from .rows import FaultsSummary, FoundRow, Told
from .summary import summarize
from .worker import FaultsWorker

COLUMNS = (
    *("data set", "fault", "dose", "selector", "optimizer", "n", "AUC [95 %]", "precision", "recall"),
    *("won back", "of the loss", "harm [95 %]", "finds", "mends"),
)


class Faults(StudyOnQuestions[FaultsConfig, FaultsWorker]):
    """Plants each fault in memory, has every selector with every optimizer answer, and holds them against the truth."""

    kind: ClassVar[str] = "faults"
    config = FaultsConfig
    worker = FaultsWorker
    record = FaultAnswer
    summary = FaultsSummary
    page = staticmethod(page)

    def arms(self, config: FaultsConfig) -> Sequence[tuple[str, int]]:
        return [(name, 0) for name in config.parts]

    def pieces(self, worker: FaultsWorker, records: Records[FaultAnswer]) -> Iterator[Piece]:
        """One faulty model after another, whose references are kept."""
        cells, parts = [*worker.config.cells], worker.config.parts
        yield from sorted(super().pieces(worker, records), key=lambda piece: cells.index(parts[piece.arm][0]))

    def told(self, worker: FaultsWorker, weights: Footprint) -> tuple[dict[str, Any], Sequence[str]]:
        cells, arms = [*worker.config.cells], [*worker.config.arms]
        told = [f"{len(cells)} models, each with {1 + len(arms)} arms:", *(f"  {cell}" for cell in cells)]
        return {"faults": cells, "arms": arms}, told

    def summarize(self, records: Sequence[FaultAnswer], worker: FaultsWorker) -> FaultsSummary:
        return summarize(records, worker.config, worker.model.layers, worker.inputs)

    def table(self, summary: FaultsSummary) -> Table:
        return Table(COLUMNS, [_shown(row) for row in summary.rows])


def _shown(row: FoundRow) -> list[str]:
    return [
        *(row.dataset, row.fault, f"{row.dose:g}", row.selector, row.optimizer, str(row.n)),
        *(_interval(row.auc, "{:.2f}"), _number(row.precision, "{:.2f}"), _number(row.recall, "{:.2f}")),
        *(_number(row.won_back, "{:.0%}"), _number(row.loss_won_back, "{:.0%}"), _interval(row.harm, "{:+.1f}")),
        *(row.finds, row.mends),
    ]


def _number(told: Told, form: str) -> str:
    return form.format(told.mean) if told else "–"


def _interval(told: Told, form: str) -> str:
    return f"{form} [{form}, {form}]".format(told.mean, told.ci_low, told.ci_high) if told else "–"
