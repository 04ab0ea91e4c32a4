"""What a comparison comes to: summary, table of answers, report; of one that is not finished as far as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...analysis.summarize import summarize
from ...analysis.unfinished_run import missing
from ...records.answer import AnswerRecord
from ...records.jsonl import read_records
from ...records.parquet import PARQUET, write_parquet
from ...records.summary import Summary
from ...report.comparison_page import render
from ...storage.files import write_text
from ...storage.json_values import Values
from ..data import Data, counted_once, poisoned_in_words
from .audited import audited
from .comparison_config import ComparisonConfig


def conclude(
    out: Path | str,
    config: ComparisonConfig,
    inputs: Values,
    data: Data,
    asked: Mapping[str, int],
    failed: Mapping[str, str],
) -> Summary:
    """Write the summary and draw the report of a run's records, as far as they go.

    Args:
        out: the run's folder.
        config: what was run.
        inputs: what the run was claimed with beside its configuration.
        data: its questions and references, as far as they are at hand.
        asked: how many questions each data set has, as far as that is known.
        failed: arms that are left out, and why.

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
    told = {"counted_once": tuple(counted_once(data)), "poisoned": tuple(poisoned_in_words(data))}
    summary = summary.model_copy(update={"failed": dict(failed), **told})
    write_text(Path(out) / "summary.json", summary.model_dump_json(indent=1) + "\n")
    write_parquet(records, Path(out) / PARQUET)
    draw_report(out, data)
    return summary


def draw_report(out: Path | str, data: Data) -> None:
    """Draw ``report.html`` of a run's summary and records.

    Args:
        out: the run's folder.
        data: the texts of its questions and references, as far as they are at hand; ids stand for others.
    """
    asked = {(name, q.id): q for name, part in data.items() for q in part.questions}
    known = {(name, q.id): q for name, part in data.items() for q in part.references}
    render(out, asked, known)
