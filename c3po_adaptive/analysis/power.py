"""What a comparison could have shown at all: a gain that it had little chance to find is not refuted by it."""

from __future__ import annotations

LEVEL, POWER = 0.05, 0.8
FEWEST = 6
"""Flips, all in one direction, that McNemar's exact test takes for p < 0.05."""


def detectable(error: float, n: int) -> float:
    """The smallest gain that a two-sided test at 0.05 finds with power 0.8, in units of ``error``'s.

    It is (z₀.₉₇₅ + z₀.₈) times the standard error of the paired differences: flips are taken to be as many as there
    were. Where hardly any were, this falls towards zero, and no test follows: fewer than six flips, all in one
    direction, prove nothing. So the gain is at least the rate at which six of ``n`` questions flip with that power,
    some 7.9 / n.

    Args:
        error: standard error of the mean difference of accuracy, 0 to 1.
        n: questions.

    Returns:
        0 to 1; 1 where six flips are more than there are questions.
    """
    from scipy.stats import norm

    return min(1.0, max(float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)) * error, _fewest(n)))


def _fewest(n: int) -> float:
    """The rate at which ``FEWEST`` of ``n`` flip, or more, with that power."""
    from scipy.stats import beta

    # Clopper and Pearson's relation: P(binomial(n, rate) >= k) = P(beta(k, n - k + 1) <= rate).
    return float(beta.ppf(POWER, FEWEST, n - FEWEST + 1)) if n >= FEWEST else 1.0
