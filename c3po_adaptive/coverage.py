"""Risk against coverage: what re-mixing does if only the questions with the strongest signal are re-mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .stats import Record, bootstrap_interval

COVERAGES = tuple(k / 10 for k in range(1, 11))


def risk_by_coverage(dataset: str, records: Sequence[Record], *, seed: int) -> list[dict[str, Any]]:
    """A row for each share of the questions, strongest signal first; none for an arm that weighs no signal.

    ``gain`` in points over all questions, with its interval; ``harm``: per cent of all that go from right to wrong.
    Questions that the arm left alone count as such, so the curve is whole for an arm that leaves none.
    """
    if not records or any(r.get("strength") is None for r in records):
        return []
    strength = np.array([r["strength"] for r in records])
    gain = np.array([float(r["choice"] == r["answer"]) - float(r["base_choice"] == r["answer"]) for r in records])
    order = np.argsort(-strength, kind="stable")
    rows = []
    for coverage in COVERAGES:
        taken = np.zeros(len(gain))
        taken[order[: round(coverage * len(gain))]] = 1
        low, high = bootstrap_interval([gain * taken], seed=seed)
        rows.append(
            {
                "dataset": dataset,
                "arm": records[0]["arm"],
                "coverage": coverage,
                "gain": 100 * float((gain * taken).mean()),
                "ci_low": 100 * low,
                "ci_high": 100 * high,
                "harm": 100 * float(((gain < 0) * taken).mean()),
            }
        )
    return rows
