"""Studies of faithfulness as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from ...records.base import Interval
from ...registry import Registry
from ...storage.json_values import Values
from ..kind import Study, Table
from ..plan import Plan, footprint_of, foresee, left, planned
from .faithfulness_config import FaithfulnessConfig
from .faithfulness_page import draw_report
from .faithfulness_run import check_model, check_strategies, run_faithfulness
from .faithfulness_summary import CONTROLS, TRUTH, FaithfulnessSummary
from .faithfulness_worker import FaithfulnessWorker
from .layer_record import ScoreRecord


class Faithfulness(Study[FaithfulnessConfig]):
    """Scores of layers beside what re-mixing each of them really does."""

    kind: ClassVar[str] = "faithfulness"
    config = FaithfulnessConfig
    run = staticmethod(run_faithfulness)

    def strategies(self, config: FaithfulnessConfig, registry: Registry) -> Iterator[tuple[str, Any]]:
        worker = FaithfulnessWorker.here(config, registry)
        strategies = worker.strategies
        yield from ((f.name, getattr(strategies, f.name)) for f in fields(strategies))
        yield from (("selector", selector) for selector in worker.scores.values())

    def plan(self, config: FaithfulnessConfig, registry: Registry, begun: Path | None = None) -> Plan:
        worker = FaithfulnessWorker.here(config, registry)
        check_strategies(worker)
        weights = footprint_of(config)
        times = 2 * len(weights.layers) + 1
        again = times + 1 + 2 * len(config.points) * (len(config.scores) + len(CONTROLS))
        foreseen = foresee(config, worker.data, {TRUTH: times + again}, weights)
        check_model(worker, foreseen.weights.layers, foreseen.weights.n_experts)
        arm = config.arm.model_dump(mode="json", exclude_defaults=True)
        told = [f"re-mixed by {arm or 'defaults'}", *(f"  {name}: {spec}" for name, spec in config.scores.items())]
        told.append(
            f"each question is re-mixed {times} times, with all steps of the optimizer over its neighbours each time, "
            f"and asked up to {again} times more; how long that takes, --begun says after {config.batch_size} of them"
        )
        plain: Values = {"arm": arm, "scores": config.scores, "times": times, "asked_again": again}
        return planned(self.kind, worker.data, foreseen, plain, told, left(begun, ScoreRecord, worker.data, {TRUTH: 1}))

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        draw_report(out)
        yield from ()

    def table(self, summary: FaithfulnessSummary) -> Table:
        truths = summary.truths
        rows = [
            [row.dataset, row.score, *(_interval(row.correlation(truth)) for truth in truths), f"{row.cost:.2f}"]
            for row in summary.rows
        ]
        said = [f"Counted once: {what}." for what in summary.counted_once]
        return Table(("data set", "score", *truths, "cost"), rows, said)


def _interval(found: Interval) -> str:
    return f"{found.mean:+.2f} [{found.ci_low:+.2f}, {found.ci_high:+.2f}]"
