"""From records to ``summary.json``, and to sentences that claim no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..storage.identity import digest, versions
from ..storage.json_files import SCHEMA
from . import statistics as stats
from .chance import above_chance
from .controls import positive_control
from .groups import grouped
from .statistics import Comparison, Record
from .table import Table
from .unfinished import beside_base
from .verdict import Audited, judge, why_untellable


def summarize(
    records: Iterable[Record],
    *,
    config: Mapping[str, Any],
    seed: int,
    baseline: str = "base",
    control: str = "ngd-random-neighbours",
    standard: str | None = None,
    headline: str | None = None,
    compare: Sequence[tuple[str, str]] = (),
    controls: Mapping[str, Sequence[str]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
    partly: bool = False,
    audited: Audited | None = None,
) -> dict[str, Any]:
    """The layout of ``summary.json``.

    P-values are adjusted by Holm in two families, as they are printed in two tables: all gains over the base, on every
    data set, and all other comparisons.

    Args:
        records: of all arms, one split per data set; a data set "all" is added to several. Records of several runs say
            which they are of (``run``).
        config: of the run, kept as it is.
        seed: of the bootstrap.
        baseline: the arm that gains are measured against; must be among the records.
        control: the arm with random neighbours, which reports look for by its name.
        standard: the arm that others are to come near to; None: none.
        headline: the arm that the run is about; its rows and comparisons say so.
        compare: pairs of arms (a, b) that are compared as well.
        controls: of arms, by name, beside those that ``controls_of`` finds; every arm is compared with its controls.
        inputs: ``versions``, and hashes of model, questions, references and plugins, as the run began; kept beside the
            hashes of config and of records (without seconds). None: of a run that was not claimed with any.
        missing: what the run has not answered, if it did not come to its end: then each arm counts with the questions
            that the base answered, too, and two arms are compared on those that both answered.
        audited: what an audit of the model says: then it stands in the summary, and a null result where nothing could
            have been found has the verdict *cannot tell*.
        partly: so they are although nothing is missing: an arm may have been asked fewer of a data set's questions.

    Raises:
        DataError: no records, no baseline, two splits of a data set, or, if neither, arms that answered different
            questions.
    """
    records, inputs = list(records), inputs or {}
    told = beside_base(records, baseline) if missing else records
    groups = grouped(told, unfinished=bool(missing))
    table = Table(groups, baseline, controls or {}, seed, unfinished=bool(missing), partly=partly)
    gains = _with_holm([gain for gain in table.gains.values() if gain.a != baseline])
    beside = _with_holm(table.beside(compare))
    comparisons = [c for dataset in table.groups for c in (*gains, *beside) if c["dataset"] == dataset]
    rows = list(table.rows(config))
    untellable = None if audited is None else _untellable(audited, table, rows, gains)
    rows = judge(rows, gains, beside, untellable)
    for found in [*rows, *comparisons]:
        found["headline"] = headline is not None and headline == found.get("arm", found.get("a"))
    return (
        ({"missing": [*missing]} if missing else {})
        | ({"audit": audited.line} if audited else {})
        | {
            "schema_version": SCHEMA,
            "baseline": baseline,
            "control": control,
            "compare": [list(pair) for pair in compare],
            "rows": rows,
            "risk": table.risk(),
            "predicted": table.predicted(),
            "agreement": [] if standard is None else table.near(standard),
            "comparisons": comparisons,
            "draws": table.draws(),
            "versions": inputs.get("versions") or versions(),
            "seed": seed,
            "config": dict(config),
            "hashes": {"config": digest(config), "records": digest([_timeless(r) for r in records])}
            | {k: v for k, v in inputs.items() if k != "versions"},
        }
    )


def _untellable(
    audited: Audited, table: Table, rows: Sequence[Record], gains: Sequence[Record]
) -> dict[str, list[str]]:
    """Why nothing can be told of a null result, by data set."""
    positive = {(row["dataset"], row["arm"]) for row in rows if positive_control(row["setting"])}
    return {
        dataset: why_untellable(
            audited,
            above_chance(arms[table.baseline]),
            [gain for gain in gains if gain["dataset"] == dataset],
            {arm for of, arm in positive if of == dataset},
        )
        for dataset, arms in table.groups.items()
    }


def _timeless(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != "seconds"}


def _with_holm(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Adjusted for the number of them."""
    adjusted = stats.holm([c.p for c in comparisons])
    kept = [k for k in Comparison.__dataclass_fields__ if not k.startswith("flips")]
    return [{k: asdict(c)[k] for k in kept} | {"p_holm": p} for c, p in zip(comparisons, adjusted, strict=True)]
