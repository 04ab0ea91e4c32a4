"""Paired statistics of arms that answered the same questions.

Accuracies, gains and their intervals are in points: 0 to 100. A question answered in several draws, each by a seed,
counts once, with the mean over them, and intervals are then over draws, too; records of several data sets give the mean
over data sets, so that a large one drowns no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, fsum, log
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError
from ..records.answer import ScoredAnswer
from ..records.summary import Comparison
from . import paired
from .crossed import Crossed, Floats, crossed
from .power import detectable

R = TypeVar("R", bound=ScoredAnswer)

FEW_FLIPS = 25
"""Below this many flips (McNemar's usual threshold) the bootstrap is too narrow, and the exact interval is used too."""

TAIL = (1 - 0.95) / 2
"""What intervals leave out on each side."""

RESAMPLES, BATCH = 9999, 500
PERMUTATIONS, FEW_SIGNS = 99_999, 12
FEW_VALUES = 8
"""Among so few, such as right, wrong and unchanged, it is counted how often each is drawn: the same, in no time."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def compare(a: Iterable[ScoredAnswer], b: Iterable[ScoredAnswer], *, seed: int) -> Comparison:
    """Compare two arms by the records of each.

    Args:
        a: records of one arm; several data sets give ``dataset="all"``.
        b: records of another arm, on the same questions.
        seed: of the bootstrap.

    Raises:
        DataError: nothing to compare, different questions, or a cost of zero to divide by.
    """
    a, b = list(a), list(b)
    by_draw = differences(a, b, is_correct)
    strata = list(by_draw.values())
    found, draws = over_flips(strata, seed=seed), strata[0].shape[1]
    up, down = flips(strata)
    if not (divisor := mean(b, total_cost)):
        raise DataError(f"Expected a cost above zero for arm {b[0].arm!r}, got 0; its records hold no cost.total.")
    n = sum(map(len, strata))
    return Comparison(
        dataset=next(iter(by_draw)) if len(strata) == 1 else "all",
        a=a[0].arm,
        b=b[0].arm,
        n=n,
        **in_points(_mean_of_means(*(d.mean(1) for d in strata)), found, n),
        draws=draws,
        cost_ratio=mean(a, total_cost) / divisor,
        flips_up=up,
        flips_down=down,
    )


def in_points(difference: float, found: Crossed, n: int) -> dict[str, Any]:
    """What a comparison of ``n`` questions says of their mean difference, before any correction."""
    ends = {"difference": 100 * difference, "ci_low": 100 * found.low, "ci_high": 100 * found.high}
    test = {"p": found.p, "p_holm": found.p, "error": 100 * found.error, "freedom": found.freedom}
    return ends | test | {"detectable": 100 * detectable(found.error, n, freedom=found.freedom)}


def over_flips(by_draw: Sequence[Floats], *, seed: int, times: int = RESAMPLES) -> Crossed:
    """Of answers that turn right or wrong: what the mean over strata of their means tells of other questions.

    Args:
        by_draw: ``[N, R]`` of each stratum, by question and draw.
        seed: of what is drawn.
        times: how often questions are resampled.
    """
    strata, (up, down) = [d.mean(1) for d in by_draw], flips(by_draw)
    alone = by_draw[0].shape[1] == len(strata) == 1
    p = mcnemar_p(up, down) if alone else sign_flip_p(strata, seed=seed)
    low, high = accuracy_interval(strata, up + down, seed, times)
    return _over_draws(Crossed(low, high, p, standard_error(strata)), by_draw)


def over_values(values: Floats, *, seed: int, times: int = RESAMPLES) -> Crossed:
    """Of any values ``[N, R]``, such as losses, or gains less gains.

    No exact interval is known of them, and a bootstrap is too narrow where few differ from zero: the interval is the
    wider of it and of Student's. Their p is by sign flips, or of many different values by Student's t.
    """
    from scipy.stats import t

    each = values.mean(1)
    low, high = bootstrap_interval([each], seed=seed, times=times)
    mean, error, freedom = float(each.mean()), standard_error([each]), max(len(each) - 1.0, 1.0)
    half = float(t.isf(TAIL, freedom)) * error
    few = len(np.unique(each)) <= FEW_VALUES
    p = sign_flip_p([each], seed=seed) if few else float(2 * t.sf(abs(mean) / error, freedom))
    return _over_draws(Crossed(min(low, mean - half), max(high, mean + half), p, error, freedom), [values])


def _over_draws(found: Crossed, by_draw: Sequence[Floats]) -> Crossed:
    """With other draws, too, if there are several: never narrower than over questions alone."""
    if by_draw[0].shape[1] == 1:
        return found
    both = crossed(by_draw)
    low, high, p = min(found.low, both.low), max(found.high, both.high), max(found.p, both.p)
    return Crossed(low, high, p, max(found.error, both.error), min(found.freedom, both.freedom))


def flips(by_draw: Sequence[Floats]) -> tuple[int, int]:
    """How many questions are answered better, and worse."""
    up, down = (sum(int((sign * d.mean(1) > 0).sum()) for d in by_draw) for sign in (1, -1))
    return up, down


def gains_of_draws(a: Iterable[ScoredAnswer], b: Iterable[ScoredAnswer]) -> list[float]:
    """Difference of accuracy in each draw, in points: the mean over data sets."""
    strata = differences(a, b, is_correct).values()
    return [100 * sum(float(s[:, r].mean()) for s in strata) / len(strata) for r in range(next(iter(strata)).shape[1])]


def on_common_questions(a: Iterable[R], b: Iterable[R]) -> tuple[list[R], list[R]]:
    """Of two arms the records of those questions that both answered."""
    a, b = list(a), list(b)
    left, right = ({(r.dataset, r.id) for r in records} for records in (a, b))
    one, two = ([r for r in records if (r.dataset, r.id) in left & right] for records in (a, b))
    return one, two


def first_draw(records: Iterable[R]) -> list[R]:
    """Of each arm on each data set the records of its first draw."""
    first: dict[tuple[str, str], int] = {}
    records = list(records)
    for r in records:
        first.setdefault((r.dataset, r.arm), r.seed)
    return [r for r in records if first[r.dataset, r.arm] == r.seed]


def paired_mean(a: Iterable[R], b: Iterable[R], value: Callable[[R], float], *, seed: int) -> Estimate:
    """Mean of ``value(a) - value(b)`` with its paired bootstrap interval; for instance of ``gold_nll``.

    Values that differ by the same amount on every question leave nothing to resample: the interval is that one number.
    """
    by_draw = list(differences(a, b, value).values())
    strata = [d.mean(1) for d in by_draw]
    low, high = bootstrap_interval(strata, seed=seed)
    if by_draw[0].shape[1] > 1:
        both = crossed(by_draw)
        low, high = min(low, both.low), max(high, both.high)
    return Estimate(_mean_of_means(*strata), low, high)


def mean(records: Iterable[R], value: Callable[[R], float]) -> float:
    """Mean over draws, then questions, then data sets."""
    return float(np.mean([np.mean(list(questions.values())) for questions in by_question(records, value).values()]))


def by_question(records: Iterable[R], value: Callable[[R], float]) -> dict[str, dict[str, float]]:
    """``{dataset: {id: value}}``, averaged over draws, in order of appearance; errors as for ``values``."""
    return {
        name: {id_: sum(draws.values()) / len(draws) for id_, draws in ids.items()}
        for name, ids in values(records, value).items()
    }


def values(records: Iterable[R], value: Callable[[R], float]) -> dict[str, dict[str, dict[int, float]]]:
    """``{dataset: {id: {seed: value}}}`` of an arm, in order of appearance.

    Raises:
        DataError: no records, or one question of an arm twice in a draw.
    """
    seen: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        draws = seen.setdefault(record.dataset, {}).setdefault(record.id, {})
        if record.seed in draws:
            raise DataError(
                f"Expected one record per sample, arm and seed, got two of {record.id!r} in arm {record.arm!r}; "
                "pass the records of one arm, and drop repeated rows."
            )
        draws[record.seed] = value(record)
    if not seen:
        raise DataError("Expected records, got none; run the arm first, or check the name of the arm and data set.")
    return seen


def differences(a: Iterable[R], b: Iterable[R], value: Callable[[R], float]) -> dict[str, Floats]:
    """``value(a) - value(b)`` of each data set, ``[N, R]`` by question and draw; see ``paired.differences``."""
    return paired.differences(values(a, value), values(b, value))


def is_correct(record: ScoredAnswer) -> float:
    """1 if the arm's choice is the gold one."""
    return float(record.correct)


def chance(record: ScoredAnswer) -> float:
    """Of being right by guessing."""
    return record.chance


def total_cost(record: ScoredAnswer) -> float:
    """In base forwards of the sample."""
    return record.cost.total


def probabilities(scores: Sequence[float]) -> Floats:
    """Softmax over the choices of their normalized log-likelihoods."""
    from scipy.special import softmax

    result: Floats = softmax(scores)
    return result


def gold_nll(record: ScoredAnswer) -> float:
    """Negative log-probability of the gold choice among the choices."""
    scores = record.scores
    return _log_of_sum(scores) - float(scores[record.answer])


def confidence(record: ScoredAnswer) -> float:
    """Probability of the likeliest choice among the choices."""
    return exp(max(record.scores) - _log_of_sum(record.scores))


def _log_of_sum(scores: Sequence[float]) -> float:
    """Of their exponentials; a hundred times as fast as SciPy's on a few numbers, and records are many."""
    most = max(scores)
    return float(most) + log(fsum(exp(score - most) for score in scores))


def mcnemar_p(up: int, down: int) -> float:
    """Exact two-sided McNemar p of the flips; 1 without any."""
    from scipy.stats import binomtest

    return float(binomtest(up, up + down, 0.5).pvalue) if up + down else 1.0


def sign_flip_p(strata: Sequence[Floats], *, seed: int) -> float:
    """Two-sided permutation p of the mean over strata of their means: each difference may change its sign.

    Of few differences all signs are tried; of more, ``PERMUTATIONS`` are drawn, by how many of each size turn.
    """
    each = np.concatenate([s / len(s) / len(strata) for s in strata])
    sizes, counts = np.unique(np.abs(each[each != 0]).round(15), return_counts=True)  # a zero adds none, turned or not
    if counts.sum() < 2:  # one sign, or the other
        return 1.0
    if counts.sum() <= FEW_SIGNS:
        signs = np.array(list(product((-1, 1), repeat=int(counts.sum()))))
        sums = signs @ np.repeat(sizes, counts)
        extra = 0
    else:
        turned = np.random.default_rng(seed).binomial(counts, 0.5, (PERMUTATIONS, len(counts)))
        sums = (counts - 2 * turned) @ sizes
        extra = 1  # what was seen is one of them
    as_much = int((np.abs(sums) >= abs(each.sum()) - 1e-12).sum())
    return (as_much + extra) / (len(sums) + extra)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down procedure, in the same order."""
    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = stepped.clip(max=1.0)
    return [float(value) for value in adjusted]


def standard_error(strata: Sequence[Floats]) -> float:
    """Of the mean over strata of their means; a single question says nothing of others, and adds nothing."""
    variance = sum(float(s.var(ddof=1)) / len(s) for s in strata if len(s) > 1)
    return float(variance**0.5) / len(strata)


def bootstrap_interval(strata: Sequence[Floats], *, seed: int, times: int = RESAMPLES) -> tuple[float, float]:
    """Percentile bootstrap of the mean over strata of their means; questions are resampled within each stratum.

    Percentile rather than BCa: for means of bounded differences the two agree, and BCa is undefined on constant data.
    """
    rng = np.random.default_rng(seed)
    means = sum(resampled_means(s, rng, times) for s in strata) / len(strata)
    low, high = np.quantile(means, [TAIL, 1 - TAIL])
    return float(low), float(high)


def resampled_means(stratum: Floats, rng: np.random.Generator, times: int = RESAMPLES) -> Floats:
    """``[times]`` means of as many values, drawn with replacement."""
    n = len(stratum)
    values, counts = np.unique(stratum, return_counts=True)
    if len(values) <= FEW_VALUES:
        means: Floats = rng.multinomial(n, counts / n, times) @ values / n
        return means
    sizes = [min(BATCH, times - done) for done in range(0, times, BATCH)]  # keeps memory small
    return np.concatenate([stratum[rng.integers(n, size=(size, n))].mean(1) for size in sizes])


def accuracy_interval(strata: list[Floats], flips: int, seed: int, times: int = RESAMPLES) -> tuple[float, float]:
    """Bootstrap, and with few flips the wider of bootstrap and exact interval on each side.

    Several data sets combine their exact limits by MOVER (Zou and Donner 2008): squared distances from estimate to
    limit add up, as variances do.
    """
    low, high = bootstrap_interval(strata, seed=seed, times=times)
    if flips >= FEW_FLIPS:
        return low, high
    center, below, above = 0.0, 0.0, 0.0
    for d in strata:
        up, down = int((d > 0).sum()), int((d < 0).sum())
        estimate = (up - down) / len(d)
        exact_low, exact_high = exact_interval(up, down, len(d))
        center += estimate
        below += (estimate - exact_low) ** 2
        above += (exact_high - estimate) ** 2
    k = len(strata)
    return min(low, (center - below**0.5) / k), max(high, (center + above**0.5) / k)


def exact_interval(up: int, down: int, n: int) -> tuple[float, float]:
    """95 % interval of ``P(up) - P(down)`` from exact bounds on the flip probabilities (Fay and Lumbard 2021).

    The difference is T (2B - 1), with T the probability of any flip and B the share of flips that go up. Both have
    Clopper-Pearson bounds: T from ``up + down`` of ``n``, B from ``up`` of ``up + down``; their confidence (beta)
    distributions are multiplied, and the quantile of the product is the limit. It excludes zero exactly when the exact
    McNemar test rejects. Without a flip, B says nothing and the limits are those of T alone,
    ±(1 - (alpha / 2)^(1 / n)): about ±3.7 / n for 95 %. Fractions, not points.
    """
    return _exact_low(up, down, n), -_exact_low(down, up, n)


def _exact_low(up: int, down: int, n: int) -> float:
    from scipy.optimize import brentq
    from scipy.stats import beta

    flips = up + down
    grid = (np.arange(1000) + 0.5) / 1000  # midpoints: a deterministic integral over T
    # The upper Clopper-Pearson distribution of T is degenerate when every question flips: T = 1.
    upper = beta(flips + 1, n - flips).ppf if flips < n else np.ones_like
    if up == 0:  # B may be 0: the whole of T may go down
        return -float(upper(np.array(1 - TAIL)))
    limits = [
        brentq(lambda w, t=t: float(beta.cdf((w / t + 1) / 2, up, down + 1).mean()) - TAIL, -1, 1)
        for t in (beta.ppf(grid, flips, n - flips + 1), upper(grid))
    ]
    return float(min(limits))


def _mean_of_means(*strata: Floats) -> float:
    return float(sum(s.mean() for s in strata) / len(strata))
