"""Comparisons as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ...analysis.comparison_folder import records_in, summary_in
from ...analysis.judging_rules import changed_since
from ...analysis.matching_controls import lacking_in_words
from ...errors import ArtifactError, DataError, PluginError, UnknownNameError
from ...models.footprint import Footprint
from ...records.answer import AnswerRecord
from ...records.parquet import PARQUET, write_parquet
from ...records.summary import Row, Summary
from ...registry import Registry
from ...report.sentences import sentences
from ...storage.json_values import Values
from ...storage.lock import held
from ...storage.run_folder import FILES, claimed_config
from ...tasks.sources import questions as read_questions
from ..data import Asked, Data, read_data
from ..kind import Table
from ..on_questions import StudyInPieces
from .added_controls import with_controls
from .comparison_config import ComparisonConfig, parsed
from .comparison_worker import ComparisonWorker
from .conclusion import conclude, draw_report
from .foreseen_power import findable, lines, values

COLUMNS = (
    *("data set", "arm", "n", "accuracy", "gain [95 %]", "up/down", "NLL [difference, 95 %]"),
    *("ECE [difference, 95 %]", "layers", "cost", "once", "verdict"),
)
BRIEF = ("data set", "arm", "accuracy", "gain [95 %]", "layers", "cost")
"""What fits a terminal of eighty columns, but for the first where there are several data sets."""


class ComparisonStudy(StudyInPieces[ComparisonConfig, ComparisonWorker]):
    """Arms on the same questions; what an interrupted run has is summarized, too."""

    kind: ClassVar[str] = "comparison"
    files: ClassVar[tuple[str, ...]] = FILES["comparison"]
    config = ComparisonConfig
    worker = ComparisonWorker
    record = AnswerRecord
    parse = staticmethod(parsed)

    def whole(self, config: ComparisonConfig, registry: Registry) -> ComparisonConfig:
        return with_controls(config, registry)

    def arms(self, config: ComparisonConfig) -> Sequence[tuple[str, int]]:
        return [(name, draw) for name, arm in config.arms.items() for draw in range(arm.draws)]

    def told(self, worker: ComparisonWorker, weights: Footprint) -> tuple[Values, Sequence[str]]:
        config = worker.config
        arms = {name: arm.model_dump(mode="json", exclude_defaults=True) for name, arm in config.arms.items()}
        found = findable(config, worker.data)
        lacks = worker.lacking_controls()
        plain: Values = {"arms": arms, "lacking": dict(lacks), "power": values(found)}
        told = [f"  {name}: {arm or 'defaults'}" for name, arm in arms.items()]
        told += [lacking_in_words(arm, words) for arm, words in lacks.items()]
        return plain, [*told, *lines(found)]

    def conclude(self, out: Path, worker: ComparisonWorker, failed: Mapping[str, str]) -> Summary:
        """One arm of several that fails is left out of the summary, which says so in ``failed``.

        Raises:
            PluginError: the base failed, or every other arm.
        """
        config, data = worker.config, worker.data
        if failed and (config.baseline in failed or failed.keys() == config.arms.keys() - {config.baseline}):
            raise PluginError("\n".join(failed.values()))
        asked = {name: len(part.questions) for name, part in data.items()}
        return conclude(out, config, worker.inputs or {}, data, asked, failed)

    def foretold(self, config: ComparisonConfig) -> Iterator[str]:
        return lines(findable(config, read_data(config)))

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        claimed = claimed_config(out)
        inputs = claimed.pop("inputs", {})
        config = self.parse(claimed)
        data: Data = {}
        if questions:
            given = [q for source in questions for q in read_questions(source)]
            data = {d.name: Asked(given, given) for d in config.datasets}
        else:
            try:
                data = read_data(config)
            except (DataError, ArtifactError, UnknownNameError) as error:
                yield f"ids instead of texts: {error}"
        told = summary_in(out)
        if told is not None and not told.missing:
            draw_report(out, data)
            write_parquet(records_in(out), out / PARQUET)
        else:
            asked = {} if questions else {name: len(part.questions) for name, part in data.items()}
            with held(out):  # a run that goes on there writes its own
                told = conclude(out, config, inputs, data, asked, {} if told is None else told.failed)
            yield from (f"not finished: {what}" for what in told.missing)
        if said := changed_since(told.hashes.get("rules")):
            yield said

    def table(self, summary: Summary) -> Table:
        several = len({row.dataset for row in summary.rows}) > 1
        return Table(COLUMNS, [*_rows(summary)], sentences(summary), BRIEF if several else BRIEF[1:])


STUDY = ComparisonStudy()


def _rows(summary: Summary) -> Iterator[list[str]]:
    """The arms on each data set, after what its references are and what guessing would reach."""
    told = set()
    for row in summary.rows:
        if row.dataset not in told:
            told.add(row.dataset)
            beside = [f"{row.dataset} ← {row.references}", "(chance)", str(row.n), f"{row.chance:.1f}"]
            yield beside + [""] * (len(COLUMNS) - len(beside))
        yield _shown(row)


def _shown(r: Row) -> list[str]:
    itself = r.role == "base"
    gain = "" if itself else f"{r.gain:+.1f} [{r.ci_low:+.1f}, {r.ci_high:+.1f}]"
    nll = "" if itself else f" {r.nll_difference:+.3f} [{r.nll_ci_low:+.3f}, {r.nll_ci_high:+.3f}]"
    ece = f" {r.calibration_difference:+.1f} [{r.calibration_ci_low:+.1f}, {r.calibration_ci_high:+.1f}]"
    return [
        *(r.dataset, r.arm, str(r.n), f"{r.accuracy:.1f}", gain, f"{r.flips_up}/{r.flips_down}"),
        *(f"{r.nll:.3f}{nll}", f"{r.calibration_error:.1f}{'' if itself else ece}", f"{r.layers:.1f}"),
        *(f"{r.cost.total:.1f}", "" if r.cost.once is None else f"{r.cost.once:.0f}", r.verdict or ""),
    ]
