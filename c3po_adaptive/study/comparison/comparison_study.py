"""Comparisons as a kind of study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from ...analysis.comparison_folder import records_in, summary_in
from ...analysis.judging_rules import changed_since
from ...analysis.matching_controls import lacking_in_words
from ...analysis.summarize import hash_of, summarize
from ...analysis.unfinished_run import missing
from ...errors import ArtifactError, DataError, PluginError, UnknownNameError
from ...models.footprint import Footprint
from ...records.answer import AnswerRecord
from ...records.jsonl import read_records
from ...records.parquet import PARQUET, ModelIdentity, write_parquet
from ...records.summary import Row, Summary
from ...registry import Registry
from ...report.comparison_page import render
from ...report.sentences import sentences
from ...storage.files import write_text
from ...storage.json_files import Values
from ...storage.lock import held
from ...storage.run_folder import FILES, claimed_config
from ...tasks.sources import questions as read_questions
from ..data import Asked, Data, counted_once, poisoned_in_words, read_data
from ..kind import Table
from ..on_questions import StudyInPieces
from .added_controls import shared_in_words, with_controls
from .audited import audited
from .comparison_config import ComparisonConfig
from .comparison_worker import ComparisonWorker
from .foreseen_power import findable, lines

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

    def whole(self, config: ComparisonConfig, registry: Registry) -> ComparisonConfig:
        return with_controls(config, registry)

    def arms(self, config: ComparisonConfig) -> Sequence[tuple[str, int]]:
        return [(name, draw) for name, arm in config.arms.items() for draw in range(arm.draws)]

    def told(self, worker: ComparisonWorker, weights: Footprint) -> tuple[Values, Sequence[str]]:
        config = worker.config
        arms = {name: arm.model_dump(mode="json", exclude_defaults=True) for name, arm in config.arms.items()}
        found = findable(config, worker.data)
        lacks = worker.lacking_controls()
        plain: Values = {"arms": arms, "lacking": dict(lacks), "power": [asdict(one) for one in found]}
        shown = [f"  {name}: {arm or 'defaults'}" for name, arm in arms.items()]
        shared = shared_in_words(config, worker.registry)
        return plain, [*shown, *shared, *lacking_in_words(lacks), *lines(found)]

    def conclude(self, out: Path, worker: ComparisonWorker, failed: Mapping[str, str]) -> Summary:
        """One arm of several that fails is left out of the summary, which says so in ``failed``.

        Raises:
            PluginError: the base failed, or every other arm.
        """
        config, data = worker.config, worker.data
        if failed and (config.baseline in failed or failed.keys() == config.arms.keys() - {config.baseline}):
            raise PluginError("\n".join(failed.values()))
        asked = {name: len(part.questions) for name, part in data.items()}
        return _concluded(out, config, worker.inputs or {}, data, asked, failed)

    def foretold(self, config: ComparisonConfig) -> Iterator[str]:
        return lines(findable(config, read_data(config)))

    def draw(self, out: Path, questions: Sequence[str] = ()) -> Iterator[str]:
        claimed = claimed_config(out)
        inputs = claimed.pop("inputs", {})
        config = self.parse(claimed)
        data: Data = {}
        if questions:
            found = [q for source in questions for q in read_questions(source)]
            data = {d.name: Asked(found, found) for d in config.datasets}
        else:
            try:
                data = read_data(config)
            except (DataError, ArtifactError, UnknownNameError) as error:
                yield f"ids instead of texts: {error}"
        summary, records = summary_in(out), records_in(out)
        whole = summary is not None and not summary.missing
        if summary is not None and whole and summary.hashes.get("records") == hash_of(records):
            _draw(out, data)
            write_parquet(records, out / PARQUET, _identity(config, inputs))
        else:
            if whole:
                yield "records changed since they were summed up: that is done again"
            asked = {} if questions else {name: len(part.questions) for name, part in data.items()}
            with held(out):  # a run that goes on there writes its own
                summary = _concluded(out, config, inputs, data, asked, {} if summary is None else summary.failed)
            yield from (f"not finished: {what}" for what in summary.missing)
        if said := changed_since(summary.hashes.get("rules")):
            yield said

    def table(self, summary: Summary) -> Table:
        several = len({row.dataset for row in summary.rows}) > 1
        return Table(COLUMNS, [*_rows(summary)], sentences(summary), BRIEF if several else BRIEF[1:])


STUDY = ComparisonStudy()


def _concluded(
    out: Path,
    config: ComparisonConfig,
    inputs: Values,
    data: Data,
    asked: Mapping[str, int],
    failed: Mapping[str, str],
) -> Summary:
    """Write the summary and draw the report of a run's records, as far as they go.

    Args:
        inputs: what the run was claimed with beside its configuration.
        data: its questions and references, as far as they are at hand.
        asked: how many questions each data set has, as far as that is known.

    Raises:
        DataError: there are no records, or none of ours, or none of the base; or the audit is of another model.
    """
    going = {name: arm.draws for name, arm in config.arms.items() if name not in failed}
    records = [record for record in read_records(out, AnswerRecord) if record.arm not in failed]
    compared = [each for each in config.compared if not {*each.pair} & failed.keys()]
    summary = summarize(
        records,
        config=config.model_dump(mode="json"),
        seed=config.seed,
        baseline=config.baseline,
        standard=None if config.standard in failed else config.standard,
        headline=None if config.headline in failed else config.headline,
        compare=list(dict.fromkeys(each.pair for each in compared)),
        by_kind=[each.pair for each in compared if each.unit == "kind"],
        primary=[(*each.pair, each.unit) for each in compared if each.primary],
        inputs=inputs,
        audited=audited(config, inputs),
        missing=[f"{arm} failed" for arm in failed]
        + missing(records, going, {d.name: asked.get(d.name) for d in config.datasets}),
    )
    found = {"counted_once": tuple(counted_once(data)), "poisoned": tuple(poisoned_in_words(data))}
    summary = summary.model_copy(update={"failed": dict(failed), **found})
    write_text(out / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_parquet(records, out / PARQUET, _identity(config, inputs))
    _draw(out, data)
    return summary


def _identity(config: ComparisonConfig, inputs: Values) -> ModelIdentity | None:
    """The model of a run, where its claim has a hash of it."""
    own = inputs.get("model")
    asked = inputs.get("questions")
    questions = {name: str(value) for name, value in asked.items()} if isinstance(asked, dict) else {}
    return ModelIdentity(Path(config.model).name, own, questions) if isinstance(own, str) else None


def _draw(out: Path, data: Data) -> None:
    """Draw ``report.html`` of a run's summary and records; ids stand for texts that are not at hand."""
    asked = {(name, q.id): q for name, part in data.items() for q in part.questions}
    known = {(name, q.id): q for name, part in data.items() for q in part.references}
    render(out, asked, known)


def _rows(summary: Summary) -> Iterator[list[str]]:
    """The arms on each data set, after what its references are and what guessing would reach."""
    seen = set()
    for row in summary.rows:
        if row.dataset not in seen:
            seen.add(row.dataset)
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
