"""Predicted beside realised benefit: whether the signal that a question is re-mixed by says what that does to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr, rankdata

from .statistics import Record, bootstrap_interval, first_draw

BINS = 5
FEWEST = 20  # questions that a correlation is told of


def predicted_benefit(
    dataset: str, records: Sequence[Record], base: Sequence[Record], *, seed: int
) -> list[dict[str, Any]]:
    """A row for an arm that weighs a signal, none for another, or if it is the same for all or there are few questions.

    What is realised is the change of the lead of the right choice over the mean of all choices, in nats, also on
    questions that the arm left alone, where it is zero. ``rank_correlation`` is Spearman's, over all questions, with
    its 95 % interval (Fisher's z of ranks); ``within`` likewise with ranks taken in each data set, so that telling data
    sets apart counts for nothing; ``bins``: fifths of the questions, weakest signal first, each with its mean signal,
    mean change and interval.
    Of an arm in several draws it is that of the first.
    """
    records = first_draw(records)
    before = {(r["dataset"], r["id"]): _lead(r) for r in first_draw(base)}
    if len(records) < FEWEST or any(r.get("strength") is None for r in records):
        return []
    kept = [r for r in records if np.isfinite(r["strength"]) and (r["dataset"], r["id"]) in before]
    strength = np.array([r["strength"] for r in kept])
    change = np.array([_lead(r) - before[r["dataset"], r["id"]] for r in kept])
    if len(kept) < FEWEST or np.ptp(strength) == 0 or np.ptp(change) == 0:
        return []
    names = np.array([r["dataset"] for r in kept])
    found = {"dataset": dataset, "arm": kept[0]["arm"], "n": len(kept)}
    within = [_ranks(values, names) for values in (strength, change)]
    return [
        found
        | _correlation("rank_correlation", rankdata(strength), rankdata(change))
        | _correlation("within", *within)
        | {"bins": _bins(strength, change, seed)}
    ]


def _lead(record: Record) -> float:
    return float(record["scores"][record["answer"]] - np.mean(record["scores"]))


def _ranks(values: Any, names: Any) -> Any:
    """Ranks in each data set, as shares of it."""
    found = np.empty(len(values))
    for name in np.unique(names):
        of = names == name
        found[of] = (rankdata(values[of]) - 0.5) / of.sum()
    return found


def _correlation(name: str, x: Any, y: Any) -> dict[str, float | None]:
    """Of ranks, with ends; None where either is all the same."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    found = pearsonr(x, y)
    ends = found.confidence_interval(0.95)
    return {name: float(found.statistic), f"{name}_low": float(ends.low), f"{name}_high": float(ends.high)}


def _bins(strength: Any, change: Any, seed: int) -> list[dict[str, float]]:
    parts = np.array_split(np.argsort(strength, kind="stable"), BINS)
    return [_bin(strength[part], change[part], seed) for part in parts]


def _bin(strength: Any, change: Any, seed: int) -> dict[str, float]:
    low, high = bootstrap_interval([change], seed=seed)
    return {
        "predicted": float(strength.mean()),
        "realised": float(change.mean()),
        "ci_low": low,
        "ci_high": high,
        "n": len(change),
    }
