"""How near one arm comes to another, question by question: its change of the pathway, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..records.answer import AnswerRecord
from ..records.summary import Agreement
from .statistics import bootstrap_interval, first_draw


def similarity_of_pathways(arms: Mapping[str, Sequence[AnswerRecord]], standard: str, *, seed: int) -> list[Agreement]:
    """A row for each arm that re-mixes, beside the arm ``standard``.

    ``cosine`` is the mean over questions of the cosine between the two Δω = ω − ω0, all layers in one vector, of the
    ``n`` questions where both arms moved (by 1e-4 at least: records are rounded), with its bootstrap interval (None for
    one question). ``same_answers`` is in percent of all questions. Of arms in several draws the first counts.

    Raises:
        DataError: the standard was not run.
    """
    if standard not in arms:
        raise DataError(f"Expected records of the arm {standard!r}, got {', '.join(arms)}; run it as well.")
    beside = {record.id: record for record in first_draw(arms[standard])}
    rows = []
    for arm, records in arms.items():
        records = first_draw(records)
        pairs = [(change(record), change(beside[record.id])) for record in records]
        cosines = np.array([cosine(a, b) for a, b in pairs if a and b])
        if arm == standard or not len(cosines):
            continue
        low, high = bootstrap_interval([cosines], seed=seed) if len(cosines) > 1 else (None, None)
        same = np.mean([record.choice == beside[record.id].choice for record in records])
        rows.append(
            Agreement(
                dataset=records[0].dataset,
                arm=arm,
                standard=standard,
                cosine=float(cosines.mean()),
                ci_low=low,
                ci_high=high,
                n=len(cosines),
                same_answers=100 * float(same),
            )
        )
    return rows


def change(record: AnswerRecord) -> dict[tuple[int, int], float]:
    """Δω of a record: by layer and expert, what is not zero."""
    return {
        (layer, expert): moved
        for layer, part in record.pathway.items()
        for expert in part.own.keys() | part.new.keys()
        if (moved := part.new.get(expert, 0.0) - part.own.get(expert, 0.0))
    }


def cosine(a: Mapping[Any, float], b: Mapping[Any, float]) -> float:
    """Of two sparse vectors, none of them zero."""
    product = sum(value * b.get(key, 0.0) for key, value in a.items())
    lengths = [np.sqrt(sum(value**2 for value in vector.values())) for vector in (a, b)]
    return float(product / (lengths[0] * lengths[1]))
