"""From records to ``summary.json``, and to sentences that claim no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..errors import DataError
from ..storage.identity import digest, versions
from ..storage.json_files import SCHEMA
from . import statistics as stats
from .asked_with import format_of, references_of
from .pathway_similarity import similarity_of_pathways
from .repeated_controls import among_draws
from .risk_by_coverage import risk_by_coverage
from .statistics import Comparison, Record
from .unfinished import beside_base

COSTS = ("embedding", "attribution", "optimisation", "total")


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
    inputs: Mapping[str, Any] | None = None,
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """The layout of ``summary.json``.

    Args:
        records: of all arms, one split per data set; a data set "all" is added to several.
        config: of the run, kept as it is.
        seed: of the bootstrap.
        baseline: the arm that gains are measured against; must be among the records.
        control: the arm with random neighbours; every other arm with neighbours is compared with it, if it was run.
        standard: the arm that others are to come near to; None: none.
        headline: the arm that the run is about; its rows and comparisons say so.
        compare: pairs of arms (a, b) that are compared as well.
        inputs: ``versions``, and hashes of model, questions, references and plugins, as the run began; kept beside the
            hashes of config and of records (without seconds). None: of a run that was not claimed with any.
        missing: what the run has not answered, if it did not come to its end: then each arm counts with the questions
            that the base answered, too, and two arms are compared on those that both answered.

    Raises:
        DataError: no records, no baseline, two splits of a data set, or, if nothing is missing, arms that answered
            different questions.
    """
    records, inputs = list(records), inputs or {}
    paired = stats.on_common_questions if missing else _as_they_are
    groups = _groups(beside_base(records, baseline) if missing else records, unfinished=bool(missing))
    for dataset, arms in groups.items():
        if baseline not in arms:
            raise DataError(
                f"Expected records of the arm {baseline!r} on {dataset!r}, got {sorted(arms)}; "
                "run it as well, gains need it."
            )
    rows, comparisons = [], []
    for dataset, arms in groups.items():
        against = {arm: stats.compare(*paired(own, arms[baseline]), seed=seed) for arm, own in arms.items()}
        asked_with = {"references": references_of(config, dataset), "format": format_of(config, dataset)}
        rows += [_row(dataset, asked_with, *paired(own, arms[baseline]), against[arm]) for arm, own in arms.items()]
        others = [c for arm, c in against.items() if arm != baseline]
        wanted = [*((arm, control) for arm in _controlled(arms, control)), *compare]
        made = [{arm, baseline} for arm in arms]
        for a, b in wanted:
            if {a, b} not in made and (not missing or ({a, b} <= arms.keys() and all(paired(arms[a], arms[b])))):
                made.append({a, b})
                others.append(stats.compare(*paired(arms[a], arms[b]), seed=seed))
        comparisons += _with_holm(others)
    for row in [*rows, *comparisons]:
        row["headline"] = headline is not None and headline == row.get("arm", row.get("a"))
    near = [
        similarity_of_pathways(
            {arm: paired(own, arms[standard])[0] for arm, own in arms.items()} if missing else arms, standard, seed=seed
        )
        for n, arms in groups.items()
        if standard and n != "all" and (standard in arms or not missing)
    ]
    return ({"missing": [*missing]} if missing else {}) | {
        "schema_version": SCHEMA,
        "baseline": baseline,
        "control": control,
        "compare": [list(pair) for pair in compare],
        "rows": rows,
        "risk": [
            row for n, arms in groups.items() for own in arms.values() for row in risk_by_coverage(n, own, seed=seed)
        ],
        "agreement": [row for rows in near for row in rows],
        "comparisons": comparisons,
        "draws": among_draws(rows, headline),
        "calibration": [
            _calibration(name, own, paired(own, arms[baseline])[1], seed)
            for name, arms in groups.items()
            for own in arms.values()
        ],
        "versions": inputs.get("versions") or versions(),
        "seed": seed,
        "config": dict(config),
        "hashes": {"config": digest(config), "records": digest([_timeless(r) for r in records])}
        | {k: v for k, v in inputs.items() if k != "versions"},
    }


def _as_they_are(a: Sequence[Record], b: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
    """Of a whole run, where arms that answered different questions are an error."""
    return a, b


def _groups(records: Sequence[Record], *, unfinished: bool) -> dict[str, dict[str, list[Record]]]:
    """``{dataset: {arm: records}}``, with "all" last if there are several data sets."""
    groups: dict[str, dict[str, list[Record]]] = {}
    splits: dict[str, str] = {}
    for record in records:
        dataset, split = record["dataset"], record["split"]
        if splits.setdefault(dataset, split) != split:
            raise DataError(
                f"Expected one split of {dataset!r}, got {splits[dataset]!r} and {split!r}; summarize each split alone."
            )
        groups.setdefault(dataset, {}).setdefault(record["arm"], []).append(record)
    if not groups:
        raise DataError("Expected records, got none; run at least the baseline arm first.")
    return {**groups, **_all(groups, unfinished=unfinished)}


def _all(groups: dict[str, dict[str, list[Record]]], *, unfinished: bool) -> dict[str, dict[str, list[Record]]]:
    if len(groups) == 1:
        return {}
    if "all" in groups:
        raise DataError('Expected data sets not named "all" (their mean is), got one; rename it.')
    arms = dict.fromkeys(arm for group in groups.values() for arm in group)
    if unfinished and any(group.keys() != arms.keys() for group in groups.values()):
        return {}  # a mean over fewer data sets would be another figure
    return {"all": {arm: [r for group in groups.values() for r in group.get(arm, [])] for arm in arms}}


def _row(
    dataset: str, asked_with: Mapping[str, str], own: Sequence[Record], base: Sequence[Record], gain: Comparison
) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "split": "+".join(sorted({r["split"] for r in own})),
        "arm": gain.a,
        "optimizer": own[0]["optimizer"],
        "selector": own[0]["selector"],
        "needs_label": own[0]["needs_label"],
        "setting": _common([r["setting"] for r in own]),
        **asked_with,
        "n": gain.n,
        "chance": 100 * stats.mean(own, stats.chance),
        "base_accuracy": 100 * stats.mean(base, stats.is_correct),
        "accuracy": 100 * stats.mean(own, stats.is_correct),
        "gain": gain.difference,
        "ci_low": gain.ci_low if gain.a != gain.b else 0.0,  # base minus itself is zero, not an estimate
        "ci_high": gain.ci_high if gain.a != gain.b else 0.0,
        "nll": stats.mean(own, stats.gold_nll),
        "flips_up": gain.flips_up,
        "flips_down": gain.flips_down,
        "layers": stats.mean(own, lambda r: len(r["layers"])),
        "neighbours_used": _neighbours_used(own),
        "cost": {phase: _mean_cost(own, phase) for phase in COSTS},
    }


def _neighbours_used(own: list[Record]) -> float | None:
    """How many a question, on average; None: records of before do not say."""
    told = all(r.get("neighbours_used") is not None for r in own)
    return stats.mean(own, lambda r: float(r["neighbours_used"])) if told else None


def _timeless(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != "seconds"}


def _mean_cost(own: Sequence[Record], phase: str) -> float:
    return stats.mean(own, lambda r: float(r["cost"][phase]))


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that all records share; what varies (such as a format per data set) names none of them."""
    first, rest = settings[0], settings[1:]
    return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in rest)}


def _controlled(arms: Mapping[str, list[Record]], control: str) -> Iterator[str]:
    """Arms whose neighbours alone tell them from the control, if that is there."""
    if control in arms:
        setting = _common([r["setting"] for r in arms[control]])
        for arm, own in arms.items():
            if _differ_in_neighbours_only(_common([r["setting"] for r in own]), setting):
                yield arm


def _differ_in_neighbours_only(setting: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    a, b = ({k: v for k, v in s.items() if k != "retriever"} for s in (setting, control))
    return a == b and setting != control


def _with_holm(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Adjusted for the number of comparisons on one data set."""
    adjusted = stats.holm([c.p for c in comparisons])
    kept = [k for k in Comparison.__dataclass_fields__ if not k.startswith("flips")]
    return [{k: asdict(c)[k] for k in kept} | {"p_holm": p} for c, p in zip(comparisons, adjusted, strict=True)]


def _calibration(dataset: str, own: Sequence[Record], base: Sequence[Record], seed: int) -> dict[str, Any]:
    nll = stats.paired_mean(own, base, stats.gold_nll, seed=seed)
    return {
        "dataset": dataset,
        "arm": own[0]["arm"],
        "calibration_error": stats.calibration_error(own),
        "nll_difference": nll.value,
        "nll_ci_low": nll.low,
        "nll_ci_high": nll.high,
    }
