"""What every arm asks for: parameters, input, labels, the right task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..records.summary import AskedFor, Row, Summary


def requirements(summary: Summary) -> list[AskedFor]:
    """What each arm asks for, a row each, measured: the mean over data sets.

    ``parameters`` that were trained, ``prompt`` in FLOPs over that of the plain prompt (None where it is run along with
    other steps, as ``tent``'s is), ``labels`` that it learned from, and how its gain depends on the task: ``lowest``
    and ``highest`` of its gains on the data sets, their standard deviation ``sd``, and ``beyond_noise``, what is left
    of that when the variance that so few questions bring by themselves is taken off (Hedges and Olkin 1985); in points,
    None on a single data set.
    """
    errors = {(c.dataset, c.a): c.error for c in summary.comparisons if c.b == summary.baseline}
    arms: dict[str, list[Row]] = {}
    for row in summary.rows:
        if row.dataset != "all":
            arms.setdefault(row.arm, []).append(row)
    return [
        AskedFor(
            arm=arm,
            needs_label=rows[0].needs_label,
            datasets=len(rows),
            parameters=_mean(row.parameters for row in rows),
            prompt=_mean(row.cost.prefill or None for row in rows),
            labels=_mean(row.labels for row in rows),
            **_spread([row.gain for row in rows], [errors.get((row.dataset, arm), 0.0) for row in rows]),
        )
        for arm, rows in arms.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    """None if a data set's records do not say."""
    known = [*values]
    told = [v for v in known if v is not None]
    return float(np.mean(told)) if len(told) == len(known) else None


def _spread(gains: Sequence[float], errors: Sequence[float]) -> dict[str, float | None]:
    if len(gains) < 2:
        return dict.fromkeys(("lowest", "highest", "sd", "beyond_noise"))
    variance = float(np.var(gains, ddof=1))
    left = max(0.0, variance - float(np.mean(np.square(errors))))
    return {"lowest": min(gains), "highest": max(gains), "sd": variance**0.5, "beyond_noise": left**0.5}
