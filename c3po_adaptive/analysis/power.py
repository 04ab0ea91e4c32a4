"""What a comparison could have shown at all: a gain that it had little chance to find is not refuted by it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import floor, inf, log2, sqrt

from ..records.summary import SIGNIFICANT

POWER = 0.8
FLIPPING = 0.2
"""The share of questions that flip which is assumed before a run: a fifth, as the page of verdicts reckons with."""
MOST = 10**7
"""Questions that nobody has."""
LARGE = 1000
"""Degrees of freedom from which on t is normal."""


def detectable(error: float, n: int, comparisons: int = 1, freedom: float = inf) -> float:
    """The smallest gain that is found with power 0.8 after Holm's correction, in units of ``error``'s.

    Of several comparisons in one table it is Holm's hardest case, which tests at 0.05 / ``comparisons``: that no other
    of them is found before it. The gain is then (z₁₋ₐ + z₀.₈) times the standard error of the paired differences, where
    a is half that level: 2.8 of one comparison, 4.1 of fifty. Flips are taken to be as many as there were. Where hardly
    any were, this falls towards zero, and no test follows: too few flips, all in one direction, prove nothing (fewer
    than six, of one comparison). So the gain is at least the rate at which so many of ``n`` questions flip with that
    power, some 7.9 / n.

    Args:
        error: standard error of the mean difference of accuracy, 0 to 1.
        n: questions.
        comparisons: that share the correction; 1: none is made.
        freedom: degrees of freedom of a test by t; infinite: of one that has none.

    Returns:
        0 to 1; 1 where it takes more flips than there are questions.
    """
    level = SIGNIFICANT / comparisons
    return min(1.0, max(_shifts(level, freedom) * error, _fewest(level, n)))


def foreseen(sizes: Sequence[int], comparisons: int = 1, flipping: float = FLIPPING, freedom: float = inf) -> float:
    """The smallest gain that would be found, as ``detectable``, before anything is answered.

    Args:
        sizes: how many questions each data set has; of several the gain is the mean over them.
        comparisons: that share the correction.
        flipping: share of the questions that are assumed to flip, one way or the other; 0: what no study of so many
            questions can go below, as all its flips are gains.
        freedom: degrees of freedom of a test by t.
    """
    error = sqrt(sum(flipping / n for n in sizes)) / len(sizes)
    return detectable(error, sum(sizes), comparisons, freedom)


def needed(gain: float, comparisons: int = 1, flipping: float = FLIPPING) -> int:
    """The fewest questions by which a gain (0 to 1) would be found, of one data set or of several alike together."""
    return 1 + bisect_left(range(1, MOST), True, key=lambda n: foreseen([n], comparisons, flipping) <= gain)


def _shifts(level: float, freedom: float) -> float:
    """By how many standard errors a mean has to differ from zero."""
    from scipy.optimize import brentq
    from scipy.stats import nct, norm, t

    if freedom > LARGE:
        return float(norm.isf(level / 2) + norm.ppf(POWER))
    least = float(t.isf(level / 2, freedom))
    return float(brentq(lambda shift: float(nct.sf(least, freedom, shift)) - POWER, 0, 10 * least))


def _fewest(level: float, n: int) -> float:
    """The rate at which as many of ``n`` flip as McNemar's exact test takes, all in one direction, or more."""
    from scipy.stats import beta

    fewest = floor(log2(2 / level)) + 1
    # Clopper and Pearson's relation: P(binomial(n, rate) >= k) = P(beta(k, n - k + 1) <= rate).
    return float(beta.ppf(POWER, fewest, n - fewest + 1)) if n >= fewest else 1.0
