"""Studies of faithfulness as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from c3po_adaptive.study import Footprint, Interval, Piece, Records, StudyOnQuestions, Table

from .config import FaithfulnessConfig
from .page import page
from .record import ScoreRecord
from .summary import CONTROLS, TRUTH, FaithfulnessSummary, ScoreRow, summarize
from .worker import FaithfulnessWorker


class Faithfulness(StudyOnQuestions[FaithfulnessConfig, FaithfulnessWorker]):
    """Scores of layers beside what re-mixing each of them really does."""

    kind: ClassVar[str] = "faithfulness"
    config = FaithfulnessConfig
    worker = FaithfulnessWorker
    record = ScoreRecord
    summary = FaithfulnessSummary
    page = staticmethod(page)

    def arms(self, config: FaithfulnessConfig) -> Sequence[tuple[str, int]]:
        return [(TRUTH, 0)]

    def pieces(self, worker: FaithfulnessWorker, records: Records[ScoreRecord]) -> Iterator[Piece]:
        """All scores at once, of which the truth is written last."""
        return (replace(piece, arm="") for piece in super().pieces(worker, records))

    def times(self, config: FaithfulnessConfig, weights: Footprint) -> Mapping[str, int]:
        return {TRUTH: sum(_times(config, weights))}

    def told(self, worker: FaithfulnessWorker, weights: Footprint) -> tuple[dict[str, Any], Sequence[str]]:
        config, (times, again) = worker.config, _times(worker.config, weights)
        arm = config.arm.model_dump(mode="json", exclude_defaults=True)
        told = [f"re-mixed by {arm or 'defaults'}", *(f"  {name}: {spec}" for name, spec in config.scores.items())]
        told.append(
            f"each question is re-mixed {times} times, with all steps of the optimizer over its neighbours each time, "
            f"and asked up to {again} times more; how long that takes, --begun says after {config.batch_size} of them"
        )
        return {"arm": arm, "scores": config.scores, "times": times, "asked_again": again}, told

    def summarize(self, records: Sequence[ScoreRecord], worker: FaithfulnessWorker) -> FaithfulnessSummary:
        return summarize(records, worker.config, worker.model.layers, worker.inputs, worker.counted_once)

    def table(self, summary: FaithfulnessSummary) -> Table:
        truths, marked = summary.truths, {(p.dataset, p.of): p.marked for p in summary.places}
        rows = [
            [row.dataset, row.score, *_found(row, truths, marked[row.dataset, row.score]), f"{row.cost:.2f}"]
            for row in summary.rows
        ]
        said = [f"Counted once: {what}." for what in summary.counted_once]
        columns = ("data set", "score", *truths, *(["marked"] if any(marked.values()) else []), "cost")
        return Table(columns, rows, said)


def _times(config: FaithfulnessConfig, weights: Footprint) -> tuple[int, int]:
    """How often each question is re-mixed, and how often it is asked beside that."""
    times = 2 * len(weights.layers) + 1
    return times, times + 1 + 2 * len(config.points) * (len(config.scores) + len(CONTROLS))


def _found(row: ScoreRow, truths: Sequence[str], marked: Interval | None) -> list[str]:
    return [_interval(row.correlation(truth)) for truth in truths] + ([_interval(marked)] if marked else [])


def _interval(found: Interval) -> str:
    return f"{found.mean:+.2f} [{found.ci_low:+.2f}, {found.ci_high:+.2f}]"
