"""An arm's row in a summary: what it reached on one data set, or over all, and what that took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import statistics as stats
from .calibration import calibration_change, calibration_error
from .groups import common
from .statistics import Comparison, Record

PHASES = ("prefill", "embedding", "attribution", "optimisation", "total")


def row(
    dataset: str,
    asked_with: Mapping[str, str],
    own: Sequence[Record],
    base: Sequence[Record],
    gain: Comparison,
    seed: int,
) -> dict[str, Any]:
    """Without its verdict, which takes the whole table.

    Args:
        dataset: its name, or "all".
        asked_with: ``references`` and ``format``, in words.
        own: records of the arm.
        base: of the arm that gains are measured against, on the same questions.
        gain: the one minus the other.
        seed: of the bootstrap.
    """
    itself = gain.a == gain.b  # base minus itself is zero, not an estimate
    nll = stats.paired_mean(own, base, stats.gold_nll, seed=seed)
    calibration = calibration_change(own, base, seed=seed)
    return {
        "dataset": dataset,
        "split": "+".join(sorted({r["split"] for r in own})),
        "arm": gain.a,
        "optimizer": own[0]["optimizer"],
        "selector": own[0]["selector"],
        "needs_label": own[0]["needs_label"],
        "setting": common([r["setting"] for r in own]),
        **asked_with,
        "n": gain.n,
        "draws": gain.draws,
        "chance": 100 * stats.mean(own, stats.chance),
        "base_accuracy": 100 * stats.mean(base, stats.is_correct),
        "accuracy": 100 * stats.mean(own, stats.is_correct),
        "gain": gain.difference,
        "ci_low": 0.0 if itself else gain.ci_low,
        "ci_high": 0.0 if itself else gain.ci_high,
        "detectable": None if itself else gain.detectable,
        "nll": stats.mean(own, stats.gold_nll),
        "nll_difference": nll.value,
        "nll_ci_low": nll.low,
        "nll_ci_high": nll.high,
        "calibration_error": calibration_error(own),
        "calibration_difference": calibration.value,
        "calibration_ci_low": calibration.low,
        "calibration_ci_high": calibration.high,
        "flips_up": gain.flips_up,
        "flips_down": gain.flips_down,
        "layers": stats.mean(own, lambda r: len(r["layers"])),
        "moved": _known(own, lambda r: r.get("moved")),
        "neighbours_used": _known(own, lambda r: r.get("neighbours_used")),
        "labels": _known(own, lambda r: r.get("labels")),
        "parameters": _known(own, lambda r: r.get("parameters")),
        "cost": {phase: stats.mean(own, _phase(phase)) for phase in PHASES}
        | {"once": _known(own, lambda r: r.get("once"))},
    }


def _phase(name: str) -> Callable[[Record], float]:
    """In base forwards of the question."""
    return lambda r: float(r["cost"].get(name, 0.0))


def _known(records: Sequence[Record], value: Callable[[Record], Any]) -> float | None:
    """Its mean; None if a record does not say, as those of earlier versions."""
    if any(value(r) is None for r in records):
        return None
    return stats.mean(records, lambda r: float(value(r)))


def settings_of(arms: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, Any]]:
    """What each arm's records have in common of its settings."""
    return {arm: common([r["setting"] for r in own]) for arm, own in arms.items()}
