"""Studies of known faults as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...registry import Registry
from ..comparison.evaluation import check_strategies, strategies_of
from ..kind import Study, Table
from ..plan import Plan, foresee, left, planned
from .fault_answer import FaultAnswer
from .fault_rows import FaultsSummary, FoundRow, Told
from .faults_config import FaultsConfig
from .faults_page import draw_report
from .faults_run import check_model, run_faults
from .faults_worker import FaultsWorker

COLUMNS = (
    *("data set", "fault", "dose", "selector", "optimizer", "n", "AUC [95 %]", "precision", "recall"),
    *("won back", "of the loss", "harm [95 %]", "finds", "mends"),
)


class Faults(Study[FaultsConfig]):
    """Selectors and optimizers beside faults whose truth is known."""

    kind: ClassVar[str] = "faults"
    config = FaultsConfig
    run = staticmethod(run_faults)

    def strategies(self, config: FaultsConfig, registry: Registry) -> Iterator[tuple[str, Any]]:
        return strategies_of(config.comparison, registry)

    def plan(self, config: FaultsConfig, registry: Registry, begun: Path | None = None) -> Plan:
        check_strategies(config.comparison, registry)
        worker = FaultsWorker.here(config, registry)
        times = dict.fromkeys(config.parts, 1)
        foreseen = foresee(config, worker.data, times)
        weights = foreseen.weights
        check_model(worker, weights.layers, weights.n_experts, weights.top_k)
        values = {"faults": list(config.cells), "arms": list(config.arms)}
        told = [f"{len(config.cells)} models, each with {1 + len(config.arms)} arms:"]
        told += [f"  {cell}" for cell in config.cells]
        rest = left(begun, FaultAnswer, worker.data, times)
        return planned(self.kind, worker.data, foreseen, values, told, rest)

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        draw_report(out)
        yield from ()

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
