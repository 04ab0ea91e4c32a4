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
    sides = stats.on_common_questions(*([r for r in records if r["arm"] == name] for name in (arm, baseline)))
    rows = []
    for dataset in dict.fromkeys(r["dataset"] for r in sides[0]):
        here = [[r for r in side if r["dataset"] == dataset] for side in sides]
        kinds = sorted({r["subject"] for r in here[0]})
        rows.append(_row(dataset, None, here, seed))
        if len(kinds) > 1:
            of_kinds = ([[r for r in side if r["subject"] == kind] for side in here] for kind in kinds)
            rows += [_row(dataset, kind, each, seed) for kind, each in zip(kinds, of_kinds, strict=True)]
    return rows


def _row(dataset: str, kind: str | None, sides: Sequence[Sequence[Record]], seed: int) -> dict[str, Any]:
    own, base = sides
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
