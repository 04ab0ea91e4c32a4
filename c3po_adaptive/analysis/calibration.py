"""Calibration: how far confidence is from being right, bin by bin and over all, and how much an arm changes it.

All are of the likeliest choice, where the model writes its answers, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..records.answer import ScoredAnswer
from .crossed import Floats
from .statistics import Estimate, by_question, confidence, values

BINS, RESAMPLES = 10, 2000


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


def calibration_error(records: Iterable[ScoredAnswer]) -> float:
    """Expected calibration error of an arm, in points: of each draw on each data set, averaged."""
    return 100 * float(np.mean([np.mean([_error(gaps.sum(0)) / len(gaps) for gaps in each]) for each in _of(records)]))


def calibration_change(a: Iterable[ScoredAnswer], b: Iterable[ScoredAnswer], *, seed: int) -> Estimate:
    """Error of arm ``a`` minus that of ``b``, in points, with its paired 95 % bootstrap interval.

    Questions are drawn again within each data set, the same for both arms and all of their draws. The interval is the
    basic one: gaps drawn again hold their noise twice and are larger, the more so the smaller they are, so that their
    quantiles would lie to the side of the worse calibrated arm. It is approximate all the same, as noise adds to an
    error of few answers a bin: beside a well calibrated arm of 300 to 600 answers it held the change that more answers
    would show in 61 to 93 % of simulated cases (quantiles: 30 to 100 %). What decides is the log-likelihood.
    """
    value, drawn = 0.0, np.zeros(RESAMPLES)
    pairs = list(zip(_of(a), _of(b), strict=True))
    again = _drawn_again(tuple(len(one[0]) for one, _ in pairs), seed)
    for (one, two), counts in zip(pairs, again, strict=True):
        times = counts.astype(np.float64)
        for sign, side in ((1, one), (-1, two)):
            for gaps in side:
                share = sign / len(side) / len(pairs) / len(one[0])
                value += share * float(_error(gaps.sum(0)))
                drawn += share * _error(times @ gaps)
    low, high = 2 * value - np.quantile(drawn, [0.975, 0.025])
    return Estimate(100 * value, 100 * float(low), 100 * float(high))


@lru_cache(maxsize=1)
def _drawn_again(sizes: tuple[int, ...], seed: int) -> list[Floats]:
    """``[RESAMPLES, N]`` of each data set: how often a question is drawn; kept, as all arms are drawn alike."""
    rng = np.random.default_rng(seed)
    return [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(np.min_scalar_type(n)) for n in sizes]


def reliability(records: Sequence[ScoredAnswer]) -> list[Bin]:
    """Bins of equal width that hold questions, least confident first; all data sets together.

    Intervals are Wilson's (1927, JASA 22:209).
    """
    from scipy.stats import binomtest

    sure, right = (
        np.array([value for each in by_question(records, of).values() for value in each.values()])
        for of in (confidence, likeliest_is_right)
    )
    place = _bin_of(sure)
    found = []
    for k in range(BINS):
        inside = place == k
        if n := int(inside.sum()):
            interval = binomtest(round(right[inside].sum()), n).proportion_ci(method="wilson")
            share = float(right[inside].mean())
            found.append(Bin(n, float(sure[inside].mean()), share, float(interval.low), float(interval.high)))
    return found


def likeliest_is_right(record: ScoredAnswer) -> float:
    """1 if the likeliest choice is the gold one, whatever the model wrote: what ``confidence`` is held against."""
    return float(record.likeliest_is_right)


def _error(sums: Floats) -> Any:
    """``[..., BINS]`` sums of what being right exceeds confidence by, in each bin: their sizes, summed."""
    return np.abs(sums).sum(-1)


def _gaps(confidence: Sequence[float], correct: Sequence[float]) -> Floats:
    """``[N, BINS]``: of each answer, in the bin that it falls in, by how much being right exceeds its confidence."""
    sure, right = np.asarray(confidence, float), np.asarray(correct, float)
    found = np.zeros((len(sure), BINS))
    found[np.arange(len(sure)), _bin_of(sure)] = right - sure
    return found


def _bin_of(sure: Floats) -> Any:
    """Of equal width."""
    return np.minimum((sure * BINS).astype(int), BINS - 1)


def _of(records: Iterable[ScoredAnswer]) -> list[list[Floats]]:
    """Of each data set the gaps of each draw, data sets and questions in the order of their names."""
    records = list(records)
    sure, right = values(records, confidence), values(records, likeliest_is_right)
    return [_by_draw(sure[name], right[name]) for name in sorted(sure)]


def _by_draw(sure: Mapping[str, Mapping[Any, float]], right: Mapping[str, Mapping[Any, float]]) -> list[Floats]:
    ids = sorted(sure)
    draws = sorted({draw for each in sure.values() for draw in each})
    found = []
    for draw in draws:
        own = [i for i in ids if draw in sure[i]]
        found.append(_gaps([sure[i][draw] for i in own], [right[i][draw] for i in own]))
    return found
