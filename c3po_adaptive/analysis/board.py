"""Records of several runs as one table, and what every arm asks for: parameters, input, labels, the right task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..records.answer import Answered
from ..records.summary import AskedFor, Row, Summary

Runs = Sequence[tuple[str, str, Sequence[Answered]]]
"""Of each run: what it is called, the draw that it is part of, and its records."""


def joined(runs: Runs) -> list[Answered]:
    """All records, each with the number of its draw (``run``).

    Runs of one draw, such as a data set each, stand beside each other. Another draw answers the same questions with
    other references, or with another carving of the model: intervals are then over draws, too (see ``crossed``). The
    draw of the first run is the first. An arm that several runs have in common, as a base is, counts once.

    Raises:
        DataError: an arm answered a question of a data set twice in a draw, and not the same, or by other settings.
    """
    numbers: dict[str, int] = {}
    seen: dict[tuple[Any, ...], tuple[str, Any]] = {}
    found = []
    for name, draw, records in runs:
        number = numbers.setdefault(draw, len(numbers))
        for record in records:
            key = number, record.dataset, record.arm, record.id, record.seed
            said = record.choice, record.setting
            before, known = seen.setdefault(key, (name, said))
            if before != name and known != said:
                raise DataError(
                    f"Expected one answer to a question from each arm, got two to {record.id!r} of "
                    f"{record.dataset!r} by {record.arm!r}, in {before} and in {name}, of which "
                    f"{'settings' if known[1] != said[1] else 'choices'} differ; name draws, or leave one of them out."
                )
            if before == name:
                found.append(record.model_copy(update={"run": number}))
    return found


def matrix(summary: Summary) -> list[AskedFor]:
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


def _mean(values: Any) -> float | None:
    """None if a data set's records do not say."""
    values = list(values)
    return None if any(v is None for v in values) else float(np.mean(values))


def _spread(gains: Sequence[float], errors: Sequence[float]) -> dict[str, float | None]:
    if len(gains) < 2:
        return dict.fromkeys(("lowest", "highest", "sd", "beyond_noise"))
    variance = float(np.var(gains, ddof=1))
    left = max(0.0, variance - float(np.mean(np.square(errors))))
    return {"lowest": min(gains), "highest": max(gains), "sd": variance**0.5, "beyond_noise": left**0.5}
