"""From records to ``summary.json``, and to sentences that claim no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..records.answer import Answered
from ..records.summary import Comparison, Row, Summary, Unit
from ..storage.identity import digest, versions
from ..storage.json_files import Values
from .arm_comparisons import ArmComparisons
from .by_dataset import grouped
from .chance import above_chance
from .dataset_in_words import DatasetsInWords
from .judging_rules import rules
from .unfinished_run import answered_by_base
from .verdict import corrected, judge, named_beforehand, why_untellable


def summarize(
    records: Iterable[Answered],
    *,
    config: Values,
    seed: int,
    baseline: str = "base",
    standard: str | None = None,
    headline: str | None = None,
    compare: Sequence[tuple[str, str]] = (),
    by_kind: Sequence[tuple[str, str]] = (),
    primary: Sequence[tuple[str, str, Unit]] = (),
    inputs: Values | None = None,
    missing: Sequence[str] = (),
    audited: str | None = None,
) -> Summary:
    """What ``summary.json`` holds.

    P-values are adjusted by Holm in two families, as they are printed in two tables: all gains over the base, on every
    data set, and all other comparisons. Primary ones are in neither: each is tested alone, on the data set that is
    shown ("all", or the only one that counts).

    Args:
        records: of all arms, one split per data set; a data set "all" is added to several, without
            those that ask the same questions once more by what is generated.
        config: of the run, kept as it is.
        seed: of the bootstrap.
        baseline: the arm that gains are measured against; must be among the records.
        standard: the arm that others are to come near to; None: none.
        headline: the arm that the run is about; its rows and comparisons say so.
        compare: pairs of arms (a, b) that are compared as well, beside every arm with its controls.
        by_kind: pairs of these that are compared once more, with kinds of question as the unit.
        primary: pairs, and the unit of each, that were named as primary before the run.
        inputs: ``versions``, and hashes of model, questions, references and plugins, as the run began; kept beside the
            hashes of config, of records (without seconds) and of the rules that judged them. None: of a run that was
            not claimed with any.
        missing: what the run has not answered, if it did not come to its end: then each arm counts with the questions
            that the base answered, too, and two arms are compared on those that both answered.
        audited: what an audit of the model says: then it stands in the summary, and a null result where nothing could
            have been found has the verdict *cannot tell*.

    Raises:
        DataError: no records, no baseline, two splits of a data set, or, if neither, arms that answered different
            questions.
    """
    records, inputs = list(records), inputs or {}
    counted = answered_by_base(records, baseline) if missing else records
    in_words = DatasetsInWords(config)
    again = in_words.again({r.dataset for r in counted})
    groups = grouped(counted, unfinished=bool(missing), again=again)
    table = ArmComparisons(groups, baseline, seed, unfinished=bool(missing))
    named = named_beforehand({name: arms for name, arms in groups.items() if name not in again}, primary)
    gains = corrected([gain for gain in table.gains.values() if gain.a != baseline], named)
    others = corrected([*table.with_controls(compare), *table.over_kinds(by_kind)], named)
    gains, others = ([c.model_copy(update={"headline": c.a == headline}) for c in each] for each in (gains, others))
    rows = list(table.rows(in_words, headline))
    untellable = {} if audited is None else _untellable(table, rows, gains)
    return Summary(
        missing=tuple(missing),
        audit=audited,
        baseline=baseline,
        compare=tuple(compare),
        rows=tuple(judge(rows, gains, others, untellable)),
        risk=tuple(table.risk()),
        predicted=tuple(table.predicted()),
        agreement=() if standard is None else tuple(table.near(standard)),
        comparisons=tuple(c for dataset in table.groups for c in (*gains, *others) if c.dataset == dataset),
        draws=tuple(table.draws()),
        versions=told_versions if isinstance(told_versions := inputs.get("versions"), dict) else versions(),
        seed=seed,
        config=dict(config),
        hashes={
            "config": digest(config),
            "records": hash_of(records),
            "rules": rules(),
            **{name: value for name, value in inputs.items() if name != "versions"},
        },
    )


def hash_of(records: Iterable[Answered]) -> str:
    """Of records without their seconds, as a summary of them keeps it."""
    return digest([r.model_dump(mode="json", exclude={"seconds"}) for r in records])


def _untellable(table: ArmComparisons, rows: Sequence[Row], gains: Sequence[Comparison]) -> dict[str, list[str]]:
    """Why nothing can be told of a null result, by data set."""
    return {
        dataset: why_untellable(
            above_chance(arms[table.baseline]),
            [gain for gain in gains if gain.dataset == dataset],
            {row.arm for row in rows if row.dataset == dataset and row.setting.positive},
        )
        for dataset, arms in table.groups.items()
    }
