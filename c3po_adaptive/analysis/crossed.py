"""Questions and draws alike: how far a mean would move with other questions *and* another draw of what all of them
share, the references, their labels or the model.

Every draw answers the same questions, so that the two are crossed. That is the design of readers and cases in
diagnostic trials, and its interval is that of Dorfman, Berbaum and Metz with Hillis' degrees of freedom (2007, Stat.
Med. 26:596), which holds its level with as few as three draws; a bootstrap over three does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]


@dataclass(frozen=True)
class Crossed:
    """The 95 % interval of a mean over questions and draws.

    Attributes:
        low: lower end.
        high: upper end.
        p: two-sided, that the mean is zero.
        error: standard error of the mean.
        freedom: its degrees of freedom; infinite where no test by t is made.
    """

    low: float
    high: float
    p: float
    error: float
    freedom: float = inf


def crossed(strata: Sequence[Floats]) -> Crossed:
    """Of the mean over strata of their means.

    Its variance is that of the draws' means, s² / R, which holds the share of both, and that of the questions beyond
    what draws explain, (MS_questions - MS_rest) / (N R), stratum by stratum, where that is above zero. Its degrees of
    freedom are (R - 1) (variance / (s² / R))².

    Args:
        strata: ``[N, R]`` of each data set: a value for each question and draw, R > 1 and the same draws in all.
    """
    from scipy.stats import t

    by_draw = np.mean([s.mean(0) for s in strata], axis=0)
    r = len(by_draw)
    of_draws = float(by_draw.var(ddof=1)) / r
    of_questions = sum(max(_beyond_draws(s), 0.0) for s in strata) / len(strata) ** 2
    mean, variance = float(by_draw.mean()), of_draws + of_questions
    if not variance:
        return Crossed(mean, mean, float(not mean), 0.0)
    freedom = (r - 1) * (variance / of_draws) ** 2 if of_draws > 1e-12 * variance else inf
    error = variance**0.5
    width = float(t.ppf(0.975, freedom)) * error
    p = float(2 * t.sf(abs(mean) / error, freedom))
    return Crossed(mean - width, mean + width, p, error, freedom)


def _beyond_draws(values: Floats) -> float:
    """(MS_questions - MS_rest) / (N R) of ``[N, R]``; zero for a single question, which tells nothing of others."""
    n, r = values.shape
    if n < 2:
        return 0.0
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    return float(values.mean(1).var(ddof=1) / n - (rest**2).sum() / ((n - 1) * (r - 1)) / (n * r))
