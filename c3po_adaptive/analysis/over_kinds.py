"""Two arms compared kind by kind of question: what a gain is on kinds like these, not on questions like these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from ..records.answer import Answered
from ..records.summary import Comparison
from . import statistics as stats
from .crossed import Crossed, Floats, crossed

R = TypeVar("R", bound=Answered)


def compare_over_kinds(a: Iterable[R], b: Iterable[R], *, seed: int) -> Comparison | None:
    """Compare two arms by the mean over kinds of question of their differences, each kind counted once.

    The unit is the kind (data set and subject), as if these kinds were drawn among others. The interval is the wider of
    a bootstrap that draws kinds, and questions within each, and of Student's over the kinds' means, whose two-sided p
    is told; of arms in several draws also of that over kinds and draws (``crossed``). The first is a little too wide
    where a kind has few questions, the second holds its level with few kinds.

    Returns:
        As ``compare``, with ``unit`` and ``kinds``; None of a single kind, which tells nothing of others.

    Raises:
        DataError: as ``compare``.
    """
    a, b = list(a), list(b)
    each = _by_kind(a, b)
    if len(each) < 2:
        return None
    plain, found = stats.compare(a, b, seed=seed), over_units(each, seed=seed)
    unit = {"unit": "kind", "kinds": len(each)}
    return plain.model_copy(update=stats.in_points(float(_means(each).mean()), found, plain.n) | unit)


def over_units(each: Sequence[Floats], *, seed: int, times: int = stats.RESAMPLES, bootstrap: bool = True) -> Crossed:
    """What the mean over units of their means tells of other units: see ``compare_over_kinds``.

    Args:
        each: ``[N, R]`` of each of two units or more, by question and draw.
        times: how often units are resampled.
        bootstrap: without it the interval is Student's alone.
    """
    found = [_student(each), *([_bootstrap(each, seed, times)] if bootstrap else [])]
    found += [crossed([_means(each)])] if each[0].shape[1] > 1 else []
    return Crossed(
        min(over.low for over in found),
        max(over.high for over in found),
        max(over.p for over in found),
        max(over.error for over in found),
        min(over.freedom for over in found),
    )


def _by_kind(a: Sequence[R], b: Sequence[R]) -> list[Floats]:
    """``[N, R]`` differences of each kind's questions, by draw."""
    subjects = {(r.dataset, r.id): r.subject for r in a}
    found = []
    for dataset, values in stats.differences(a, b, stats.is_correct).items():
        own = [subject for (of, _), subject in subjects.items() if of == dataset]
        found += [values[[subject == kind for subject in own]] for kind in dict.fromkeys(own)]
    return found


def _means(each: Sequence[Floats]) -> Floats:
    """``[K, R]`` of each kind, by draw."""
    return np.array([kind.mean(0) for kind in each])


def _bootstrap(each: Sequence[Floats], seed: int, times: int) -> Crossed:
    """Kinds are drawn with replacement, and as many questions within each as it has; p is left to the others."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(each), size=(times, len(each)))
    counts = np.bincount(drawn.ravel(), minlength=len(each))
    # Places where the first was drawn, then the second, …; small integers are sorted ten times as fast.
    by_kind = drawn.ravel().astype(np.min_scalar_type(len(each))).argsort(kind="stable")
    values = np.empty(drawn.size)
    values[by_kind] = np.concatenate(
        [stats.resampled_means(kind.mean(1), rng, int(n)) for kind, n in zip(each, counts, strict=True)]
    )
    means = values.reshape(drawn.shape).mean(1)
    low, high = np.quantile(means, [stats.TAIL, 1 - stats.TAIL])
    return Crossed(float(low), float(high), 0.0, float(means.std()))


def _student(each: Sequence[Floats]) -> Crossed:
    """Of the mean over kinds of their means, by their own standard error."""
    from scipy.stats import t

    means = _means(each).mean(1)
    mean, error, freedom = float(means.mean()), stats.standard_error([means]), len(each) - 1.0
    if not error:  # all alike: only their signs tell something
        return Crossed(mean, mean, stats.sign_flip_p([means], seed=0), 0.0, freedom)
    width = float(t.isf(stats.TAIL, freedom)) * error
    return Crossed(mean - width, mean + width, float(2 * t.sf(abs(mean) / error, freedom)), error, freedom)
