"""Reliability: how often answers of a confidence are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records.answer import ScoredAnswer
from .calibration import likeliest_is_right
from .statistics import by_question, confidence

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Questions whose answer has about one confidence.

    Attributes:
        n: how many.
        confidence: their mean probability of the likeliest option, 0 to 1.
        accuracy: the share whose likeliest option is right, 0 to 1.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    n: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(records: Sequence[ScoredAnswer]) -> list[Bin]:
    """Bins of equal width that hold questions, least confident first; all data sets together.

    The bins are those of ``calibration``; intervals are Wilson's (1927, JASA 22:209).
    """
    from scipy.stats import binomtest

    sure, right = (
        np.array([value for each in by_question(records, of).values() for value in each.values()])
        for of in (confidence, likeliest_is_right)
    )
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    found = []
    for k in range(BINS):
        inside = place == k
        if n := int(inside.sum()):
            interval = binomtest(round(right[inside].sum()), n).proportion_ci(method="wilson")
            share = float(right[inside].mean())
            found.append(Bin(n, float(sure[inside].mean()), share, float(interval.low), float(interval.high)))
    return found
