"""Risk against coverage: what re-mixing does if only the questions with the strongest signal are re-mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..records.answer import Answered
from ..records.summary import Coverage
from .statistics import accuracy_interval, first_draw

COVERAGES = tuple(k / 10 for k in range(1, 11))


def risk_by_coverage(dataset: str, records: Sequence[Answered], *, seed: int) -> list[Coverage]:
    """A row for each share of each data set's questions, strongest signal first; none for an arm that weighs no signal.

    ``gain`` in points over all questions, as the mean over data sets, with its interval; ``harm``: percent that go
    from right to wrong. Questions that the arm left alone count as such: the curve is whole for one that leaves none.
    Of an arm in several draws it is that of the first.
    """
    records = first_draw(records)
    if not records or any(r.strength is None or r.base_choice is None for r in records):
        return []
    names = dict.fromkeys(r.dataset for r in records)
    parts = [[r for r in records if r.dataset == name] for name in names]
    rows = []
    for coverage in COVERAGES:
        gains = [_gain(part, coverage) for part in parts]
        flips = int(sum(np.count_nonzero(gain) for gain in gains))
        low, high = accuracy_interval(gains, flips, seed)
        rows.append(
            Coverage(
                dataset=dataset,
                arm=records[0].arm,
                coverage=coverage,
                gain=100 * float(np.mean([gain.mean() for gain in gains])),
                ci_low=100 * low,
                ci_high=100 * high,
                harm=100 * float(np.mean([(gain < 0).mean() for gain in gains])),
            )
        )
    return rows


def _gain(records: Sequence[Answered], coverage: float) -> Any:
    """``[N]`` 1 from wrong to right, -1 from right to wrong, 0 also for those whose signal is too weak."""
    strength = np.array([r.strength for r in records])
    gain = np.array([float(r.choice == r.answer) - float(r.base_choice == r.answer) for r in records])
    gain[np.argsort(-strength, kind="stable")[round(coverage * len(gain)) :]] = 0
    return gain
