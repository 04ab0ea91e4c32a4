"""An arm's gain on each data set, and on each kind of question in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import statistics as stats
from .statistics import Record


def gain_by_kind(records: Sequence[Record], arm: str, baseline: str, *, seed: int) -> list[dict[str, Any]]:
    """A row for each data set (``kind`` is None), followed by one for each of its kinds, if it has several.

    ``accuracy``, ``base`` and ``chance`` are percent, ``gain`` and its 95 % interval points, not corrected for how many
    rows there are. Questions that only one of the two answered are left out.
    """
    own, base = ({_key(r): r for r in records if r["arm"] == name} for name in (arm, baseline))
    pairs = [(own[key], base[key]) for key in own if key in base]
    rows = []
    for dataset in dict.fromkeys(a["dataset"] for a, _ in pairs):
        here = [pair for pair in pairs if pair[0]["dataset"] == dataset]
        kinds = sorted({a["subject"] for a, _ in here})
        rows.append(_row(dataset, None, here, seed))
        if len(kinds) > 1:
            rows += [_row(dataset, kind, [p for p in here if p[0]["subject"] == kind], seed) for kind in kinds]
    return rows


def _key(record: Record) -> tuple[str, str, int]:
    return record["dataset"], record["id"], record["seed"]


def _row(dataset: str, kind: str | None, pairs: Sequence[tuple[Record, Record]], seed: int) -> dict[str, Any]:
    own, base = ([pair[i] for pair in pairs] for i in (0, 1))
    found = stats.compare(own, base, seed=seed)
    return {
        "dataset": dataset,
        "kind": kind,
        "arm": found.a,
        "n": found.n,
        "accuracy": 100 * stats.mean(own, stats.is_correct),
        "base": 100 * stats.mean(base, stats.is_correct),
        "chance": 100 * stats.mean(own, stats.chance),
        "gain": found.difference,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
    }
