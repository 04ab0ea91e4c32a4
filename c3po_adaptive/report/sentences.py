"""What a summary allows to say, in plain words, and no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..analysis.controls import left_to_chance, only_a_control
from ..analysis.verdict import SIGNIFICANT, claimed
from ..errors import DataError

Role = Literal["base", "control", "oracle", "method"]


def shown_dataset(summary: Mapping[str, Any]) -> str:
    """The data set that the sentences speak of: "all", or the only one."""
    names = [row["dataset"] for row in summary["rows"]]
    return "all" if "all" in names else str(names[0])


def role(row: Mapping[str, Any], summary: Mapping[str, Any]) -> Role:
    """What an arm is there for."""
    if row["arm"] == summary["baseline"]:
        return "base"
    if row["arm"] == summary["control"] or only_a_control(row["setting"]):
        return "control"
    return "oracle" if row["needs_label"] else "method"


def find(summary: Mapping[str, Any], dataset: str, a: str, b: str) -> dict[str, Any] | None:
    """The comparison of two arms, if it was made."""
    return next((c for c in summary["comparisons"] if (c["dataset"], c["a"], c["b"]) == (dataset, a, b)), None)


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """What may be said, in plain words, one line per arm; first what is missing of a run that is not finished, and
    which questions were given again.

    Of an arm that could be used it is said what its verdict is; of the base, of bounds and of mere controls, whether a
    gain may be claimed: if the interval excludes zero and p is below 0.05. That neighbours matter is claimed likewise,
    of the comparison with random ones.

    Raises:
        DataError: an arm is not compared with the baseline.
    """
    dataset = shown_dataset(summary)
    rows = [row for row in summary["rows"] if row["dataset"] == dataset]
    lines = [f"Not finished: {what}." for what in summary.get("missing", ())]
    lines += [f"Counted once: {what}." for what in summary.get("counted_once", ())]
    lines += [_sentence(row, summary) for row in rows]
    roles = [role(row, summary) for row in rows]
    if "method" in roles and summary["control"] not in [row["arm"] for row in rows]:
        other = "" if "control" in roles else " Nor was any other control: what a gain comes from cannot be said."
        lines.append("No control with random neighbours was run: nothing can be said about the neighbours." + other)
    lines += [_compared(c) for c in summary["comparisons"] if c["dataset"] == dataset and _asked_for(c, summary)]
    lines += [_among_draws(d, summary) for d in summary.get("draws", ()) if d["dataset"] == dataset]
    return [*lines, summary["audit"]] if "audit" in summary else lines


def _among_draws(d: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    gain = find(summary, d["dataset"], d["arm"], summary["baseline"])
    with_interval = f"{d['gain']:+.1f} {_interval(gain)}" if gain else f"{d['gain']:+.1f}"
    if d["p"] is None:
        claim = "no p, which takes 99 draws"
    elif d["p"] >= SIGNIFICANT:
        claim = f"p = {d['p']:.2f}, it cannot be told from its draws"
    else:
        claim = f"p = {d['p']:.2f}, {'better' if d['gain'] > d['mean'] else 'worse'} than its draws"
    span = f"{d['mean']:+.1f} points on average, {d['lowest']:+.1f} to {d['highest']:+.1f}"
    return f"{d['arm']} ({with_interval}) among {d['draws']} draws of {d['control']} ({span}): {claim}."


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
    if gain is None:
        raise DataError(
            f"Expected {arm!r} to be compared with {summary['baseline']!r} on {dataset!r}, as every arm is, got no "
            "such comparison; summarize the records again."
        )
    head = f"{head}, {gain['difference']:+.1f} points over {summary['baseline']} {_interval(gain)}"
    if kind == "oracle":
        return f"{head}: an upper bound that uses the labels, not a method."
    head = f"{head}: {_claim(gain) if kind == 'control' else _verdict(row)}"
    if row.get("layers") == 0 and "selector" in row.get("setting", {}):
        head = f"{head} (it re-mixed no layer of any question)"
    head += _fewer(row)
    if kind == "control":
        which = "the" if arm == summary["control"] else "a"
        return f"{head}. It is {which} control, with {_chance(row)}."
    beside = find(summary, dataset, arm, summary["control"])
    if beside is None:
        return f"{head}."
    return f"{head}; {_neighbours(beside)}."


def _fewer(row: Mapping[str, Any]) -> str:
    """Whether an answerer of its own used fewer neighbours than it was to use."""
    if "answerer" not in row["setting"] or row.get("neighbours_used") is None:
        return ""
    used, asked = row["neighbours_used"], row["setting"].get("retriever", {}).get("k")
    if asked is None or used > asked - 0.05:
        return ""
    return f" (it used {used:.1f} of {asked} neighbours on average: no more were found, or fit into the context)"


def _chance(row: Mapping[str, Any]) -> str:
    """What a control has in place of what is claimed."""
    drawn = left_to_chance(row["setting"])
    if not drawn:
        return "the core mixed and no step" if only_a_control(row["setting"]) else "random neighbours"
    return " and ".join(drawn)


def _verdict(row: Mapping[str, Any]) -> str:
    return f"{row['verdict'] or 'no verdict'} ({row['because']})"


def _claim(c: Mapping[str, Any]) -> str:
    claim = {1: "a gain", -1: "a loss", 0: "no gain can be claimed"}[claimed(c)]
    return claim + _caveat(c)


def _caveat(c: Mapping[str, Any]) -> str:
    """Said aloud, because the rule looks at one comparison and a run makes many."""
    return ", though not after Holm's correction" if claimed(c) and c["p_holm"] >= SIGNIFICANT else ""


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


def _interval(c: Mapping[str, Any]) -> str:
    return f"[{c['ci_low']:.1f}, {c['ci_high']:.1f}]"
