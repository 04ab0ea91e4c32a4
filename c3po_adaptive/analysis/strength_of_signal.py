"""What the signal that a question is re-mixed by says of it: risk against coverage, what re-mixing does if only the
questions with the strongest are re-mixed; and predicted beside realised benefit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..records.answer import Answered
from ..records.summary import Coverage, Fifth, Predicted
from .statistics import accuracy_interval, bootstrap_interval, first_draw

COVERAGES = tuple(k / 10 for k in range(1, 11))
BINS = 5
RESAMPLES = 999
FEWEST = 20  # questions that a correlation is told of


def risk_by_coverage(dataset: str, records: Sequence[Answered], *, seed: int) -> list[Coverage]:
    """A row for each share of each data set's questions, strongest signal first; none for an arm that weighs no signal.

    ``gain`` in points over all questions, as the mean over data sets, with its interval; ``harm``: percent that go
    from right to wrong. Questions that the arm left alone count as such: the curve is whole for one that leaves none.
    Of an arm in several draws it is that of the first.
    """
    records = first_draw(records)
    if not records or any(r.strength is None or r.base_choice is None for r in records):
        return []
    names = dict.fromkeys(r.dataset for r in records)
    parts = [[r for r in records if r.dataset == name] for name in names]
    rows = []
    for coverage in COVERAGES:
        gains = [_gain(part, coverage) for part in parts]
        flips = int(sum(np.count_nonzero(gain) for gain in gains))
        low, high = accuracy_interval(gains, flips, seed)
        rows.append(
            Coverage(
                dataset=dataset,
                arm=records[0].arm,
                coverage=coverage,
                gain=100 * float(np.mean([gain.mean() for gain in gains])),
                ci_low=100 * low,
                ci_high=100 * high,
                harm=100 * float(np.mean([(gain < 0).mean() for gain in gains])),
            )
        )
    return rows


def _gain(records: Sequence[Answered], coverage: float) -> Any:
    """``[N]`` 1 from wrong to right, -1 from right to wrong, 0 also for those whose signal is too weak."""
    strength = np.array([r.strength for r in records])
    gain = np.array([float(r.choice == r.answer) - float(r.base_choice == r.answer) for r in records])
    gain[np.argsort(-strength, kind="stable")[round(coverage * len(gain)) :]] = 0
    return gain


def predicted_benefit(
    dataset: str, records: Sequence[Answered], base: Sequence[Answered], *, seed: int
) -> list[Predicted]:
    """A row for an arm that weighs a signal, none for another, or if it is the same for all or there are few questions.

    What is realised is the change of the lead of the right choice over the mean of all choices, in nats, also on
    questions that the arm left alone, where it is zero. ``rank_correlation`` is Spearman's, over all questions, with
    its 95 % interval (bootstrap over questions, in each data set: many of them share one rank, where they are left
    alone, and Fisher's z does not hold); ``within`` likewise with ranks taken in each data set, so that telling data
    sets apart counts for nothing; ``acted`` over the ``n_acted`` questions alone whose scores the arm changed;
    ``bins``: fifths of the questions, weakest signal first, each with its mean signal, mean change and interval.
    Of an arm in several draws it is that of the first.
    """
    records = first_draw(records)
    before = {(r.dataset, r.id): _lead(r) for r in first_draw(base)}
    if len(records) < FEWEST or any(r.strength is None for r in records):
        return []
    both = [r for r in records if (r.dataset, r.id) in before]
    strength = np.array([r.strength for r in both])
    change = np.array([_lead(r) - before[r.dataset, r.id] for r in both])
    if len(both) < FEWEST or np.ptp(strength) == 0 or np.ptp(change) == 0:
        return []
    names = np.array([r.dataset for r in both])
    everywhere, acted = np.zeros(len(both)), change != 0
    return [
        Predicted(
            dataset=dataset,
            arm=both[0].arm,
            n=len(both),
            n_acted=int(acted.sum()),
            **_correlation("rank_correlation", strength, change, everywhere, names, seed),
            **_correlation("within", strength, change, names, names, seed),
            **_correlation("acted", strength[acted], change[acted], everywhere[acted], names[acted], seed),
            bins=tuple(
                _bin(strength[part], change[part], seed)
                for part in np.array_split(np.argsort(strength, kind="stable"), BINS)
            ),
        )
    ]


def _lead(record: Answered) -> float:
    return float(record.scores[record.answer] - np.mean(record.scores))


def _ranks(values: Any, names: Any) -> Any:
    """Ranks in each data set, as shares of it."""
    found = np.empty(len(values))
    for name in np.unique(names):
        of = names == name
        found[of] = (rankdata(values[of]) - 0.5) / of.sum()
    return found


def _correlation(name: str, x: Any, y: Any, ranked: Any, drawn: Any, seed: int) -> dict[str, float | None]:
    """Spearman's, with ends; None where either is all the same, or of too few questions.

    Args:
        x: a value of each question.
        y: another value of each.
        ranked: in which group each is ranked.
        drawn: from which group each is drawn again.
    """
    keys = (name, f"{name}_low", f"{name}_high")
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(keys)
    groups = [np.flatnonzero(drawn == group) for group in np.unique(drawn)]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        again = np.concatenate([rng.choice(group, len(group)) for group in groups])
        if np.ptp(x[again]) and np.ptp(y[again]):
            found.append(_of_ranks(x[again], y[again], ranked[again]))
    ends = np.quantile(found, (0.025, 0.975))
    return dict(zip(keys, (_of_ranks(x, y, ranked), *map(float, ends)), strict=True))


def _of_ranks(x: Any, y: Any, groups: Any) -> float:
    return float(np.corrcoef(_ranks(x, groups), _ranks(y, groups))[0, 1])


def _bin(strength: Any, change: Any, seed: int) -> Fifth:
    low, high = bootstrap_interval([change], seed=seed)
    return Fifth(
        predicted=float(strength.mean()), realised=float(change.mean()), ci_low=low, ci_high=high, n=len(change)
    )
