"""Kinds of question as the unit: by hand, and whether intervals, p and power are what they say."""

import numpy as np
import pytest
from records.made import answered
from scipy.stats import ttest_1samp

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.over_kinds import compare_over_kinds
from c3po_adaptive.errors import DataError


def answers(arm, right, *, dataset="bed", seed=0):
    """``right`` by kind: a list of 0 and 1 each."""
    return [
        answered(arm=arm, dataset=dataset, subject=kind, id=f"{kind}-{i}", seed=seed, correct=bool(one))
        for kind, each in right.items()
        for i, one in enumerate(each)
    ]


def differing(by_kind):
    """Two arms, right on so many questions of each kind more (or fewer), of so many."""
    a = {kind: [1] * max(gain, 0) + [0] * (n - max(gain, 0)) for kind, (gain, n) in by_kind.items()}
    b = {kind: [1] * max(-gain, 0) + [0] * (n - max(-gain, 0)) for kind, (gain, n) in by_kind.items()}
    return answers("a", a), answers("b", b)


def test_each_kind_counts_once():
    a, b = differing({"many": (0, 300), "few": (5, 10), "some": (-2, 20)})
    found = compare_over_kinds(a, b, seed=0)
    assert found.difference == pytest.approx(100 * (0 + 0.5 - 0.1) / 3)
    assert (found.unit, found.kinds, found.n) == ("kind", 3, 330)
    assert stats.compare(a, b, seed=0).difference == pytest.approx(100 * 3 / 330)
    expected = ttest_1samp([0, 0.5, -0.1], 0)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert found.ci_low <= 100 * low + 1e-9
    assert found.ci_high >= 100 * high - 1e-9


def test_kinds_of_one_name_in_two_data_sets_are_two():
    sides = []
    for arm, right in (("a", 1), ("b", 0)):
        sides.append([r for d in ("one", "two") for r in answers(arm, {"facts": [right, 0]}, dataset=d)])
    found = compare_over_kinds(*sides, seed=0)
    assert (found.dataset, found.kinds, found.difference) == ("all", 2, 50)


def test_a_single_kind_tells_nothing_of_others():
    assert compare_over_kinds(*differing({"one": (30, 60)}), seed=0) is None


def test_all_kinds_alike_are_told_by_their_signs():
    found = compare_over_kinds(*differing({str(k): (1, 10) for k in range(5)}), seed=0)
    assert found.p == pytest.approx(2 / 2**5)
    assert found.claimed == 0
    assert compare_over_kinds(*differing({str(k): (0, 10) for k in range(5)}), seed=0).p == 1


def test_different_questions_are_refused():
    a, b = differing({"x": (1, 4), "y": (0, 4)})
    with pytest.raises(DataError, match="same questions"):
        compare_over_kinds(a[:-1], b, seed=0)


def drawn(rng, mean, *, kinds, between, n):
    """Both arms, on kinds whose own gain differs from kind to kind."""
    sides = {"a": {}, "b": {}}
    for k in range(kinds):
        gain = float(np.clip(rng.normal(mean, between), -0.5, 0.5))
        b = rng.random(n) < 0.5
        a = np.where(b, rng.random(n) >= max(-gain, 0) * 2, rng.random(n) < max(gain, 0) * 2)
        sides["a"][str(k)], sides["b"][str(k)] = a.astype(int), b.astype(int)
    return answers("a", sides["a"]), answers("b", sides["b"])


def test_claims_nothing_where_kinds_differ_and_their_mean_is_zero():
    """Over questions alone one of three such tables would show a gain or a loss on other kinds."""
    rng, how = np.random.default_rng(0), {"kinds": 10, "between": 0.15, "n": 60}
    tables = [drawn(rng, 0.0, **how) for _ in range(80)]
    over_kinds = np.mean([compare_over_kinds(*table, seed=0).claimed != 0 for table in tables])
    over_questions = np.mean([stats.compare(*table, seed=0).claimed != 0 for table in tables])
    assert over_kinds <= 0.1
    assert over_questions >= 0.25


def test_what_is_detectable_is_found_four_times_in_five():
    rng, how = np.random.default_rng(1), {"kinds": 12, "between": 0.1, "n": 80}
    one = np.mean([compare_over_kinds(*drawn(rng, 0.1, **how), seed=0).detectable for _ in range(10)]) / 100
    claimed = [compare_over_kinds(*drawn(rng, float(one), **how), seed=0).claimed == 1 for _ in range(80)]
    assert 0.68 <= np.mean(claimed) <= 0.95


def test_draws_that_differ_widen_it():
    rng = np.random.default_rng(2)
    b = {str(k): [0, 1] * 10 for k in range(6)}
    alike, unlike = [], []
    for seed in range(3):
        alike += answers("a", {k: [1, 1, *each[2:]] for k, each in b.items()}, seed=seed)
        shift = int(rng.integers(0, 8)) if seed else 0
        unlike += answers("a", {k: [1] * shift + each[shift:] for k, each in b.items()}, seed=seed)
    narrow, wide = (compare_over_kinds(a, answers("b", b), seed=0) for a in (alike, unlike))
    assert (narrow.draws, wide.draws) == (3, 3)
    assert wide.error > 2 * narrow.error
    assert wide.p > narrow.p
