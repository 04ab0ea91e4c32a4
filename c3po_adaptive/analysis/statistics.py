"""Paired statistics of arms that answered the same questions.

Accuracies, gains and their intervals are in points: 0 to 100. A question asked with several seeds counts once, with the
mean over its seeds; records of several data sets give the mean over data sets, so that a large one drowns no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

Record = Mapping[str, Any]
Value = Callable[[Record], float]

FEW_FLIPS = 25
"""Below this many flips (McNemar's usual threshold) the bootstrap is too narrow, and the exact interval is used too."""

RESAMPLES = 9999


@dataclass(frozen=True)
class Comparison:
    """Arm ``a`` minus arm ``b`` on the same questions.

    Attributes:
        difference: of accuracy, in points.
        ci_low: lower end of its 95 % interval.
        ci_high: upper end.
        p: two-sided, not adjusted: the exact McNemar test on one data set; on several, where flips of large and small
            ones cannot be pooled, a sign-flip permutation test of the mean over data sets.
        cost_ratio: cost of ``a`` divided by that of ``b``, by FLOPs.
        flips_up: questions that ``a`` gets right (more often) where ``b`` does not.
        flips_down: the reverse.
    """

    dataset: str
    a: str
    b: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    cost_ratio: float
    flips_up: int
    flips_down: int


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def compare(a: Iterable[Record], b: Iterable[Record], *, seed: int, level: float = 0.95) -> Comparison:
    """Compare two arms by the records of each.

    Args:
        a: records of one arm; several data sets give ``dataset="all"``.
        b: records of another arm, on the same questions.
        seed: of the bootstrap.
        level: of the interval.

    Raises:
        DataError: nothing to compare, different questions, or a cost of zero to divide by.
    """
    a, b = list(a), list(b)
    strata = differences(a, b, is_correct)
    up, down = (sum(int((sign * d > 0).sum()) for d in strata.values()) for sign in (1, -1))
    low, high = accuracy_interval(list(strata.values()), up + down, seed, level)
    if not (divisor := mean(b, total_cost)):
        raise DataError(f"Expected a cost above zero for arm {_arm(b)!r}, got 0; its records hold no cost.total.")
    return Comparison(
        dataset=next(iter(strata)) if len(strata) == 1 else "all",
        a=_arm(a),
        b=_arm(b),
        n=sum(map(len, strata.values())),
        difference=100 * _mean_of_means(*strata.values()),
        ci_low=100 * low,
        ci_high=100 * high,
        p=mcnemar_p(up, down) if len(strata) == 1 else sign_flip_p(list(strata.values()), seed=seed),
        cost_ratio=mean(a, total_cost) / divisor,
        flips_up=up,
        flips_down=down,
    )


def on_common_questions(a: Iterable[Record], b: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Of two arms the records of those questions that both answered."""
    a, b = list(a), list(b)
    left, right = ({(r["dataset"], r["id"]) for r in records} for records in (a, b))
    one, two = ([r for r in records if (r["dataset"], r["id"]) in left & right] for records in (a, b))
    return one, two


def paired_mean(a: Iterable[Record], b: Iterable[Record], value: Value, *, seed: int, level: float = 0.95) -> Estimate:
    """Mean of ``value(a) - value(b)`` with its paired bootstrap interval; for instance of ``gold_nll``.

    Values that differ by the same amount on every question leave nothing to resample: the interval is that one number.
    """
    strata = list(differences(a, b, value).values())
    return Estimate(_mean_of_means(*strata), *bootstrap_interval(strata, seed=seed, level=level))


def mean(records: Iterable[Record], value: Value) -> float:
    """Mean over seeds, then questions, then data sets."""
    import numpy as np

    return float(np.mean([np.mean(list(questions.values())) for questions in by_question(records, value).values()]))


def by_question(records: Iterable[Record], value: Value) -> dict[str, dict[str, float]]:
    """``{dataset: {id: value}}``, averaged over seeds, in order of appearance.

    Raises:
        DataError: no records, or one sample of an arm twice with the same seed.
    """
    seen: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        seeds = seen.setdefault(record["dataset"], {}).setdefault(record["id"], {})
        if record["seed"] in seeds:
            raise DataError(
                f"Expected one record per sample, arm and seed, got two of {record['id']!r} in arm {record['arm']!r}; "
                "pass the records of one arm, and drop repeated rows."
            )
        seeds[record["seed"]] = value(record)
    if not seen:
        raise DataError("Expected records, got none; run the arm first, or check the name of the arm and data set.")
    return {name: {id_: sum(seeds.values()) / len(seeds) for id_, seeds in ids.items()} for name, ids in seen.items()}


def differences(a: Iterable[Record], b: Iterable[Record], value: Value) -> dict[str, Floats]:
    """``value(a) - value(b)`` of each question, one array per data set.

    Raises:
        DataError: the arms did not answer the same questions.
    """
    import numpy as np

    left, right = by_question(a, value), by_question(b, value)
    unpaired = _keys(left) ^ _keys(right)
    if unpaired:
        example = min(unpaired)
        raise DataError(
            f"Expected both arms to answer the same questions, got {len(unpaired)} ids that only one of them answered "
            f"(such as {example[1]!r} of {example[0]!r}); finish the interrupted run, or compare what both have."
        )
    return {name: np.array([v - right[name][id_] for id_, v in questions.items()]) for name, questions in left.items()}


def _keys(values: dict[str, dict[str, float]]) -> set[tuple[str, str]]:
    return {(name, id_) for name, ids in values.items() for id_ in ids}


def _arm(records: Sequence[Record]) -> str:
    return str(records[0]["arm"])


def is_correct(record: Record) -> float:
    """1 if the arm's choice is the gold one."""
    return float(record["correct"])


def chance(record: Record) -> float:
    """Of being right by guessing: one over the number of choices."""
    return 1 / len(record["scores"])


def total_cost(record: Record) -> float:
    """In base forwards of the sample."""
    return float(record["cost"]["total"])


def probabilities(scores: Sequence[float]) -> Floats:
    """Softmax over the choices of their normalized log-likelihoods."""
    from scipy.special import softmax

    result: Floats = softmax(scores)
    return result


def gold_nll(record: Record) -> float:
    """Negative log-probability of the gold choice among the choices."""
    from scipy.special import log_softmax

    return float(-log_softmax(record["scores"])[record["answer"]])


def calibration_error(records: Iterable[Record], bins: int = 10) -> float:
    """Expected calibration error of an arm, in points, averaged over data sets."""
    import numpy as np

    records = list(records)
    confidence = by_question(records, lambda r: float(probabilities(r["scores"]).max()))
    right = by_question(records, is_correct)
    errors = [
        expected_calibration_error(list(confidence[name].values()), list(right[name].values()), bins) for name in right
    ]
    return 100 * float(np.mean(errors))


def expected_calibration_error(confidence: Sequence[float], correct: Sequence[float], bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by the answers in each (0 to 1)."""
    import numpy as np

    c, right = np.asarray(confidence, float), np.asarray(correct, float)
    place = np.minimum((c * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - c, minlength=bins)
    return float(np.abs(gaps).sum() / len(c))


def mcnemar_p(up: int, down: int) -> float:
    """Exact two-sided McNemar p of the flips; 1 without any."""
    from scipy.stats import binomtest

    return float(binomtest(up, up + down, 0.5).pvalue) if up + down else 1.0


def sign_flip_p(strata: Sequence[Floats], *, seed: int) -> float:
    """Two-sided permutation p of the mean over strata of their means: each difference may change its sign."""
    import numpy as np
    from scipy.stats import permutation_test

    each = np.concatenate([s / len(s) / len(strata) for s in strata])
    moved = each[each != 0]  # the rest adds nothing, whatever its sign
    if len(moved) < 2:  # one sign, or the other
        return 1.0
    test = permutation_test(
        (moved,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=500,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number by Holm's step-down procedure, in the same order."""
    import numpy as np

    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = stepped.clip(max=1.0)
    return [float(value) for value in adjusted]


def bootstrap_interval(strata: Sequence[Floats], *, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap of the mean over strata of their means; questions are resampled within each stratum.

    Percentile rather than BCa: for means of bounded differences the two agree, and BCa is undefined on constant data.
    """
    import numpy as np
    from scipy.stats import bootstrap

    # One question cannot be resampled by scipy, and carries no spread: it enters as its constant.
    several = [s for s in strata if len(s) > 1]
    fixed = sum(float(s[0]) for s in strata if len(s) == 1)
    if not several:
        return fixed / len(strata), fixed / len(strata)
    interval = bootstrap(
        several,
        lambda *samples, axis: (sum(s.mean(axis) for s in samples) + fixed) / len(strata),
        n_resamples=RESAMPLES,
        batch=500,  # keeps memory small on large test sets
        method="percentile",
        confidence_level=level,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def accuracy_interval(strata: list[Floats], flips: int, seed: int, level: float) -> tuple[float, float]:
    """Bootstrap, and with few flips the wider of bootstrap and exact interval on each side.

    Several data sets combine their exact limits by MOVER (Zou and Donner 2008): squared distances from estimate to
    limit add up, as variances do.
    """
    low, high = bootstrap_interval(strata, seed=seed, level=level)
    if flips >= FEW_FLIPS:
        return low, high
    center, below, above = 0.0, 0.0, 0.0
    for d in strata:
        up, down = int((d > 0).sum()), int((d < 0).sum())
        estimate = (up - down) / len(d)
        exact_low, exact_high = exact_interval(up, down, len(d), level=level)
        center += estimate
        below += (estimate - exact_low) ** 2
        above += (exact_high - estimate) ** 2
    k = len(strata)
    return min(low, (center - below**0.5) / k), max(high, (center + above**0.5) / k)


def exact_interval(up: int, down: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of ``P(up) - P(down)`` from exact bounds on the flip probabilities (Fay and Lumbard 2021).

    The difference is T (2B - 1), with T the probability of any flip and B the share of flips that go up. Both have
    Clopper-Pearson bounds: T from ``up + down`` of ``n``, B from ``up`` of ``up + down``; their confidence (beta)
    distributions are multiplied, and the quantile of the product is the limit. It excludes zero exactly when the exact
    McNemar test rejects. Without a flip, B says nothing and the limits are those of T alone,
    ±(1 - (alpha / 2)^(1 / n)): about ±3.7 / n for 95 %. Fractions, not points.
    """
    tail = (1 - level) / 2
    return _exact_low(up, down, n, tail), -_exact_low(down, up, n, tail)


def _exact_low(up: int, down: int, n: int, tail: float) -> float:
    import numpy as np
    from scipy.optimize import brentq
    from scipy.stats import beta

    flips = up + down
    grid = (np.arange(1000) + 0.5) / 1000  # midpoints: a deterministic integral over T
    # The upper Clopper-Pearson distribution of T is degenerate when every question flips: T = 1.
    upper = beta(flips + 1, n - flips).ppf if flips < n else np.ones_like
    if up == 0:  # B may be 0: the whole of T may go down
        return -float(upper(np.array(1 - tail)))
    limits = [
        brentq(lambda w, t=t: float(beta.cdf((w / t + 1) / 2, up, down + 1).mean()) - tail, -1, 1)
        for t in (beta.ppf(grid, flips, n - flips + 1), upper(grid))
    ]
    return float(min(limits))


def _mean_of_means(*strata: Floats) -> float:
    return float(sum(s.mean() for s in strata) / len(strata))
