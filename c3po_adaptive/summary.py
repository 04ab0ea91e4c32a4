"""From records to ``summary.json``, and to sentences that claim no more than its intervals allow."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from . import stats
from .agreement import agreement
from .coverage import risk_by_coverage
from .draws import among_draws
from .errors import DataError
from .records import digest
from .stats import Comparison, Record

Role = Literal["base", "control", "oracle", "method"]

PACKAGES = ("torch", "transformers", "captum", "c3po_adaptive")
COSTS = ("embedding", "attribution", "optimisation", "total")
SIGNIFICANT = 0.05


def summarise(
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

    Raises:
        DataError: no records, no baseline, arms that answered different questions, or two splits of a data set.
    """
    records, inputs = list(records), inputs or {}
    groups = _groups(records)
    for dataset, arms in groups.items():
        if baseline not in arms:
            raise DataError(
                f"Expected records of the arm {baseline!r} on {dataset!r}, got {sorted(arms)}; "
                "run it as well, gains need it."
            )
    rows, comparisons = [], []
    for dataset, arms in groups.items():
        against = {arm: stats.compare(own, arms[baseline], seed=seed) for arm, own in arms.items()}
        rows += [_row(dataset, own, against[arm]) for arm, own in arms.items()]
        others = [c for arm, c in against.items() if arm != baseline]
        wanted = [*((arm, control) for arm in _controlled(arms, control)), *compare]
        made = [{arm, baseline} for arm in arms]
        for a, b in wanted:
            if {a, b} not in made:
                made.append({a, b})
                others.append(stats.compare(arms[a], arms[b], seed=seed))
        comparisons += _with_holm(others)
    for row in [*rows, *comparisons]:
        row["headline"] = headline is not None and headline == row.get("arm", row.get("a"))
    near = [agreement(arms, standard, seed=seed) for n, arms in groups.items() if standard and n != "all"]
    return {
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
            _calibration(name, own, arms[baseline], seed) for name, arms in groups.items() for own in arms.values()
        ],
        "versions": inputs.get("versions") or versions(),
        "seed": seed,
        "config": dict(config),
        "hashes": {"config": digest(config), "records": digest([_timeless(r) for r in records])}
        | {k: v for k, v in inputs.items() if k != "versions"},
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that results depend on; None for what is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def headline(summary: Mapping[str, Any]) -> str:
    """The data set that the sentences speak of: "all", or the only one."""
    names = [row["dataset"] for row in summary["rows"]]
    return "all" if "all" in names else str(names[0])


def role(row: Mapping[str, Any], summary: Mapping[str, Any]) -> Role:
    """What an arm is there for."""
    if row["arm"] == summary["baseline"]:
        return "base"
    if row["arm"] == summary["control"]:
        return "control"
    return "oracle" if row["needs_label"] else "method"


def find(summary: Mapping[str, Any], dataset: str, a: str, b: str) -> dict[str, Any] | None:
    """The comparison of two arms, if it was made."""
    return next((c for c in summary["comparisons"] if (c["dataset"], c["a"], c["b"]) == (dataset, a, b)), None)


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What may be said, in plain words, one arm a line.

    A gain (or loss) is claimed only if the interval excludes zero and McNemar's p is below 0.05; that neighbours
    matter, only if the same holds against the control with random neighbours. The oracle is an upper bound.
    """
    dataset = headline(summary)
    rows = [row for row in summary["rows"] if row["dataset"] == dataset]
    lines = [_sentence(row, summary) for row in rows]
    roles = [role(row, summary) for row in rows]
    if "method" in roles and "control" not in roles:
        lines.append("No control with random neighbours was run: nothing can be said about the neighbours.")
    lines += [_compared(c) for c in summary["comparisons"] if c["dataset"] == dataset and _asked_for(c, summary)]
    return lines + [_drawn(d) for d in summary.get("draws", ()) if d["dataset"] == dataset]


def _drawn(d: Mapping[str, Any]) -> str:
    claim = "better than its draws" if d["p"] <= SIGNIFICANT else "it cannot be told from its draws"
    span = f"{d['mean']:+.1f} points on average, {d['lowest']:+.1f} to {d['highest']:+.1f}"
    return (
        f"{d['arm']} ({d['gain']:+.1f}) among {d['draws']} draws of {d['control']} ({span}): p = {d['p']:.2f}, {claim}."
    )


def _asked_for(c: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    return [c["a"], c["b"]] in [list(pair) for pair in summary.get("compare", ())]


def _compared(c: Mapping[str, Any]) -> str:
    claim = {1: "better", -1: "worse", 0: "no difference can be claimed"}[claimed(c)] + _caveat(c)
    by = f"{c['difference']:+.1f} points {_interval(c)}"
    return f"{c['a']} beside {c['b']}: {by} at {100 * c['cost_ratio']:.0f} % of its cost: {claim}."


def _sentence(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    arm, dataset, kind = row["arm"], row["dataset"], role(row, summary)
    head = f"{arm}: {row['accuracy']:.1f} %"
    if kind == "base":
        where = "as the mean over data sets" if dataset == "all" else f"of {dataset}"
        return f"{head} {where} ({row['n']} questions), the model left alone."
    gain = find(summary, dataset, arm, summary["baseline"])
    assert gain is not None  # summarise compares every arm with the baseline
    head = f"{head}, {gain['difference']:+.1f} points over {summary['baseline']} {_interval(gain)}"
    if kind == "oracle":
        return f"{head}: an upper bound that uses the labels, not a method."
    head = f"{head}: {_verdict(gain)}"
    if kind == "control":
        return f"{head}. It is the control, with random neighbours."
    beside = find(summary, dataset, arm, summary["control"])
    if beside is None:
        return f"{head}."
    return f"{head}; {_neighbours(beside)}."


def _verdict(c: Mapping[str, Any]) -> str:
    claim = {1: "a gain", -1: "a loss", 0: "no gain can be claimed"}[claimed(c)]
    return claim + _caveat(c)


def _caveat(c: Mapping[str, Any]) -> str:
    """Said aloud, because the rule looks at one comparison and a run makes many."""
    return ", though not after Holm's correction" if claimed(c) and c["p_holm"] >= SIGNIFICANT else ""


def _differ_in_neighbours_only(setting: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    a, b = ({k: v for k, v in s.items() if k != "retriever"} for s in (setting, control))
    return a == b and setting != control


def _neighbours(c: Mapping[str, Any]) -> str:
    by = f"({c['difference']:+.1f} points {_interval(c)})"
    by += _caveat(c)
    match claimed(c):
        case 1:
            return f"its neighbours matter: it beats its control, random neighbours {by}"
        case -1:
            return f"its neighbours mislead: its control, random neighbours, does better {by}"
    if abs(c["difference"]) < 0.05:
        return f"its control, random neighbours, reaches the same {by}"
    return f"it cannot be told from its control, random neighbours {by}"


def claimed(c: Mapping[str, Any]) -> int:
    """1 if a comparison allows to claim that ``a`` is better, -1 that it is worse, else 0."""
    if c["p"] >= SIGNIFICANT:
        return 0
    return int(c["ci_low"] > 0) - int(c["ci_high"] < 0)


def _interval(c: Mapping[str, Any]) -> str:
    return f"[{c['ci_low']:.1f}, {c['ci_high']:.1f}]"


def _groups(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """``{dataset: {arm: records}}``, with "all" last if there are several data sets."""
    groups: dict[str, dict[str, list[Record]]] = {}
    splits: dict[str, str] = {}
    for record in records:
        dataset, split = record["dataset"], record["split"]
        if splits.setdefault(dataset, split) != split:
            raise DataError(
                f"Expected one split of {dataset!r}, got {splits[dataset]!r} and {split!r}; summarise each split alone."
            )
        groups.setdefault(dataset, {}).setdefault(record["arm"], []).append(record)
    if not groups:
        raise DataError("Expected records, got none; run at least the baseline arm first.")
    return {**groups, **_all(groups)}


def _all(groups: dict[str, dict[str, list[Record]]]) -> dict[str, dict[str, list[Record]]]:
    if len(groups) == 1:
        return {}
    if "all" in groups:
        raise DataError('Expected data sets not named "all" (their mean is), got one; rename it.')
    arms = dict.fromkeys(arm for group in groups.values() for arm in group)
    return {"all": {arm: [r for group in groups.values() for r in group.get(arm, [])] for arm in arms}}


def _row(dataset: str, own: list[Record], gain: Comparison) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "split": "+".join(sorted({r["split"] for r in own})),
        "arm": gain.a,
        "optimizer": own[0]["optimizer"],
        "selector": own[0]["selector"],
        "needs_label": own[0]["needs_label"],
        "setting": _common([r["setting"] for r in own]),
        "n": gain.n,
        "accuracy": 100 * stats.mean(own, stats.is_correct),
        "gain": gain.difference,
        "ci_low": gain.ci_low if gain.a != gain.b else 0.0,  # base minus itself is zero, not an estimate
        "ci_high": gain.ci_high if gain.a != gain.b else 0.0,
        "nll": stats.mean(own, stats.gold_nll),
        "flips_up": gain.flips_up,
        "flips_down": gain.flips_down,
        "layers": stats.mean(own, lambda r: len(r["layers"])),
        "cost": {phase: _mean_cost(own, phase) for phase in COSTS},
    }


def _timeless(record: Record) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != "seconds"}


def _mean_cost(own: list[Record], phase: str) -> float:
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


def _with_holm(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Adjusted for the number of comparisons on one data set."""
    adjusted = stats.holm([c.p for c in comparisons])
    kept = [k for k in Comparison.__dataclass_fields__ if not k.startswith("flips")]
    return [{k: asdict(c)[k] for k in kept} | {"p_holm": p} for c, p in zip(comparisons, adjusted, strict=True)]


def _calibration(dataset: str, own: list[Record], base: list[Record], seed: int) -> dict[str, Any]:
    nll = stats.paired_mean(own, base, stats.gold_nll, seed=seed)
    return {
        "dataset": dataset,
        "arm": own[0]["arm"],
        "calibration_error": stats.calibration_error(own),
        "nll_difference": nll.value,
        "nll_ci_low": nll.low,
        "nll_ci_high": nll.high,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
