"""Studies of speed as a kind of study, which comes from outside the package: the price of re-mixing.

c3po study run studies/speed/config.yaml --out runs/speed --plugin studies/speed/kind.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from c3po_adaptive import DataError, hookimpl
from c3po_adaptive.registry import Registry
from c3po_adaptive.study import HERE, Executor, Plan, Progress, Study, Table, silent

from .config import SpeedConfig
from .rows import SpeedSummary
from .run import run_speed, strategies_of

COLUMNS = ("case", "model", "ratio", "ratio_min", "ratio_max", "flops_ratio", "over_flops", "n")


class Speed(Study[SpeedConfig]):
    """The price of re-mixing, side by side with plain answers; timed here, whatever the executor."""

    kind: ClassVar[str] = "speed"
    files: ClassVar[tuple[str, ...]] = ("rows.json", "searches.json", "summary.json", "report.html", "ratios.svg")
    config = SpeedConfig

    def strategies(self, config: SpeedConfig, registry: Registry) -> Iterator[tuple[str, Any]]:
        return strategies_of(config, registry)

    def plan(self, config: SpeedConfig, registry: Registry, begun: Path | None = None) -> Plan:
        list(self.strategies(config, registry))
        cases = {n: case.model_dump(mode="json", exclude_defaults=True) for n, case in config.all_cases().items()}
        wanted = {n: search for n, search in config.searches.items() if config.wanted(n)}
        searches = {n: search.model_dump(mode="json", exclude_defaults=True) for n, search in wanted.items()}
        return Plan(
            {"kind": self.kind, "repeats": config.repeats, "cases": cases, "searches": searches},
            [f"{name}, {config.repeats} times: {case or 'defaults'}" for name, case in cases.items()]
            + [f"{name}: {search or 'defaults'}" for name, search in searches.items()],
        )

    def run(
        self,
        config: SpeedConfig,
        out: Path,
        registry: Registry,
        *,
        executor: Executor = HERE,
        progress: Progress = silent,
    ) -> SpeedSummary:
        return run_speed(config, out, registry=registry, progress=progress)

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        raise DataError("Expected a run, or a study of faithfulness, got a study of speed; run that again.")

    def table(self, summary: SpeedSummary) -> Table:
        rows = [[str(getattr(row, key)) for key in COLUMNS] for row in summary.rows]
        said = [
            f"{one.search}: top 3 of {one.references:,} in {one.milliseconds} ms (exactly: {one.exact_milliseconds} "
            f"ms), recall {one.recall}"
            for one in summary.searches
        ]
        return Table(COLUMNS, rows, said)


@hookimpl
def register_studies() -> dict[str, Study[Any]]:
    return {Speed.kind: Speed()}
