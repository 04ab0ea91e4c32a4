"""Statistics against brute force, known values and simulated truth."""

import numpy as np
import pytest
from records.made import answered
from scipy.stats import binomtest, permutation_test

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.calibration import calibration_change, calibration_error
from c3po_adaptive.errors import DataError


def records(arm, correct, dataset="demo", seed=0, cost=1.0, scores=(0.0, 0.0)):
    known = {"dataset": dataset, "arm": arm, "seed": seed, "scores": scores, "cost": {"total": cost}}
    return [answered(id=f"{i:03d}", correct=bool(c), **known) for i, c in enumerate(correct)]


def with_(record, **values):
    return record.model_copy(update=values)


def flipped(up, down, n, dataset="demo"):
    """Two arms, ``a`` right where ``b`` is not in ``up`` questions, and wrong in ``down``."""
    a = [1] * up + [0] * down + [1] * (n - up - down)
    b = [0] * up + [1] * down + [1] * (n - up - down)
    return records("a", a, dataset, cost=6.0), records("b", b, dataset, cost=2.0)


def test_comparison_in_points():
    c = stats.compare(*flipped(40, 10, 200), seed=0)
    assert (c.dataset, c.a, c.b, c.n, c.flips_up, c.flips_down) == ("demo", "a", "b", 200, 40, 10)
    assert c.difference == pytest.approx(15)
    assert c.cost_ratio == pytest.approx(3)
    assert 0 < c.ci_low < 15 < c.ci_high


def test_order_of_records_does_not_matter():
    a, b = flipped(40, 10, 200)
    assert stats.compare(a[::-1], b, seed=0).difference == stats.compare(a, b, seed=0).difference


@pytest.mark.parametrize(("up", "down", "p"), [(0, 0, 1), (1, 3, 0.625), (6, 0, 0.03125), (2, 7, 0.1796875), (5, 5, 1)])
def test_mcnemar_known_values(up, down, p):
    assert stats.mcnemar_p(up, down) == pytest.approx(p)


@pytest.mark.parametrize(("up", "down"), [(12, 3), (30, 31)])
def test_mcnemar_is_the_sign_test_of_flips(up, down):
    assert stats.mcnemar_p(up, down) == pytest.approx(binomtest(up, up + down).pvalue)


def test_bootstrap_agrees_with_brute_force():
    d = np.repeat([1.0, -1.0, 0.0], [40, 10, 150])
    drawn = np.random.default_rng(1).choice(d, (20_000, len(d))).mean(1)
    assert stats.bootstrap_interval([d], seed=0) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006)


def test_bootstrap_is_seeded():
    d = np.random.default_rng(0).normal(size=50)
    assert stats.bootstrap_interval([d], seed=3) == stats.bootstrap_interval([d], seed=3)
    assert stats.bootstrap_interval([d], seed=3) != stats.bootstrap_interval([d], seed=4)


def test_stratified_bootstrap_weighs_data_sets_alike():
    large, small = np.zeros(1000), np.random.default_rng(0).normal(1, 0.1, size=20)
    low, high = stats.bootstrap_interval([large, small], seed=0)
    assert low < small.mean() / 2 < high
    assert high - low < 0.1


def test_a_single_question_is_a_constant():
    assert stats.bootstrap_interval([np.array([1.0])], seed=0) == (1, 1)


def test_no_flip_is_not_certainty():
    c = stats.compare(*flipped(0, 0, 200), seed=0)
    bound = 100 * (1 - 0.025 ** (1 / 200))
    assert (c.ci_low, c.ci_high) == pytest.approx((-bound, bound))
    assert (c.difference, c.p) == (0, 1)


@pytest.mark.parametrize(("up", "down"), [(1, 0), (0, 1), (3, 3), (14, 0), (0, 24)])
def test_few_flips_widen_the_bootstrap(up, down):
    a, b = flipped(up, down, 182)
    c = stats.compare(a, b, seed=0)
    low, high = stats.bootstrap_interval([d[:, 0] for d in stats.differences(a, b, stats.is_correct).values()], seed=0)
    assert c.ci_low <= 100 * low
    assert 100 * high <= c.ci_high
    assert c.ci_low < c.difference < c.ci_high


@pytest.mark.parametrize("n", [25, 60])
def test_exact_interval_excludes_zero_where_mcnemar_rejects(n):
    for up in range(13):
        for down in range(13):
            low, high = stats.exact_interval(up, down, n)
            assert (low > 0 or high < 0) == (stats.mcnemar_p(up, down) < 0.05), (up, down)
            assert -1 <= low <= (up - down) / n <= high <= 1


def test_exact_interval_mirrors():
    low, high = stats.exact_interval(7, 2, 90)
    assert stats.exact_interval(2, 7, 90) == pytest.approx((-high, -low))


def test_exact_interval_when_every_question_flips():
    assert stats.exact_interval(0, 5, 5) == pytest.approx((-1, 1 - 2 * 0.025**0.2), abs=0.2)
    assert stats.exact_interval(5, 0, 5)[1] == 1


@pytest.mark.parametrize(("up", "down"), [(0.01, 0.0), (0.02, 0.02), (0.12, 0.06)])
def test_interval_covers_the_truth(up, down, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 999)  # enough here, and ten times faster
    rng, n, hits, runs = np.random.default_rng(0), 150, 0, 150
    for _ in range(runs):
        u, d, _ = rng.multinomial(n, [up, down, 1 - up - down])
        c = stats.compare(*flipped(int(u), int(d), n), seed=0)
        hits += c.ci_low <= 100 * (up - down) <= c.ci_high
    assert hits / runs >= 0.92


def test_all_is_the_mean_over_data_sets():
    (a1, b1), (a2, b2) = flipped(10, 0, 20, "small"), flipped(20, 20, 400, "large")
    c = stats.compare(a1 + a2, b1 + b2, seed=0)
    assert (c.dataset, c.n, c.flips_up, c.flips_down) == ("all", 420, 30, 20)
    assert c.difference == pytest.approx((50 + 0) / 2)


def test_p_over_data_sets_is_of_their_mean_not_of_pooled_flips():
    """All of the small set's flips go up, most of the large one's down: pooled, they would speak against the mean."""
    parts = [flipped(14, 0, 30, "small"), flipped(10, 70, 1000, "large")]
    c = stats.compare(*([r for part in parts for r in part[side]] for side in (0, 1)), seed=0)
    assert c.difference == pytest.approx((14 / 30 - 60 / 1000) / 2 * 100)
    assert c.p < 0.001
    even = [flipped(6, 0, 60, "x"), flipped(0, 60, 600, "y")]
    c = stats.compare(*([r for part in even for r in part[side]] for side in (0, 1)), seed=0)
    assert c.difference == pytest.approx(0)
    assert c.p > 0.9


def test_sign_flips_agree_with_all_of_them():
    strata = [np.array([1.0, 1.0, -1.0, 0.0]), np.array([1.0, 1.0])]
    weights = np.array([1, 1, -1, 2, 2]) / 8
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    sums = (np.abs(weights)[:, None] * signs).sum(0)
    expected = (np.abs(sums) >= weights.sum() - 1e-12).mean()
    assert stats.sign_flip_p(strata, seed=0) == pytest.approx(expected)


def test_all_without_flips_combines_exact_intervals():
    (a1, b1), (a2, b2) = flipped(0, 0, 50, "x"), flipped(0, 0, 50, "y")
    one, both = stats.compare(a1, b1, seed=0), stats.compare(a1 + a2, b1 + b2, seed=0)
    assert both.ci_high == pytest.approx(one.ci_high / 2**0.5)


def test_seeds_are_averaged_and_questions_counted_once():
    b = records("b", [0, 0, 1, 1])
    a = records("a", [1, 0, 1, 1], seed=0) + records("a", [0, 0, 1, 0], seed=1)
    c = stats.compare(a, b, seed=0)
    assert (c.n, c.flips_up, c.flips_down) == (4, 1, 1)
    assert c.difference == 0


def test_nll_is_of_the_softmax_over_choices():
    record = answered(id="a", arm="a", scores=[np.log(0.2) - 3, np.log(0.8) - 3], answer=1, correct=True)
    assert stats.gold_nll(record) == pytest.approx(-np.log(0.8))


def test_paired_nll_difference():
    a, b = records("a", [1] * 30, scores=(1.0, 0.0)), records("b", [1] * 30, scores=(0.0, 0.0))
    estimate = stats.paired_mean(a, b, stats.gold_nll, seed=0)
    expected = np.log(1 + np.exp(-1)) - np.log(2)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((expected,) * 3)


def test_calibration_error_of_records_is_in_points():
    assert calibration_error(records("a", [1, 0, 0, 0])) == pytest.approx(25)


def test_calibration_error_of_draws_is_the_mean_over_them():
    """Answers that are sure and unsure in turn would look calibrated if their confidences were averaged."""
    rng = np.random.default_rng(0)
    own = []
    for seed in range(9):
        each = records("a", rng.random(400) < 0.75)
        sure = np.where(rng.random(400) < 0.5, 0.55, 0.95)
        own += [with_(r, seed=seed, scores=(np.log(p), np.log(1 - p))) for r, p in zip(each, sure, strict=True)]
    by_draw = [calibration_error([r for r in own if r.seed == seed]) for seed in range(9)]
    assert calibration_error(own) == pytest.approx(np.mean(by_draw))
    assert calibration_error(own) > 18


class TestCalibrationChange:
    def pair(self, n=400, seed=0):
        """Right three times in four, each by itself: of which one arm is ten points too sure, and the other twenty."""
        rng = np.random.default_rng(seed)
        return [
            records(name, rng.random(n) < 0.75, scores=(np.log(p), np.log(1 - p)))
            for name, p in (("b", 0.85), ("a", 0.95))
        ]

    def test_by_hand(self):
        base, own = self.pair(n=4000)
        found = calibration_change(own, base, seed=0)
        assert found.value == pytest.approx(calibration_error(own) - calibration_error(base))
        assert 0 < found.low < found.value < found.high < 20

    def test_nothing_changed(self):
        base, _ = self.pair()
        assert calibration_change(base, base, seed=0) == stats.Estimate(0.0, 0.0, 0.0)

    def test_its_interval_holds_the_truth_as_often_as_it_says(self):
        found = [calibration_change(own, base, seed=0) for base, own in (self.pair(seed=seed) for seed in range(100))]
        assert 89 <= sum(f.low <= 10 <= f.high for f in found) < 100

    def test_beside_a_well_calibrated_arm_it_does_not_lie_to_the_other_side(self):
        """Noise of few answers a bin adds to the smaller error: quantiles hold the truth, -20, in 34 of these."""
        held = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            sure = rng.uniform(0.5, 1.0, 300)
            sides = [
                [
                    answered(id=str(i), arm=arm, correct=bool(c), scores=(np.log(s / (1 - s)), 0.0))
                    for i, (s, c) in enumerate(zip(sure, rng.random(300) < sure - off, strict=True))
                ]
                for arm, off in (("a", 0.0), ("b", 0.2))
            ]
            found = calibration_change(*sides, seed=0)
            held += found.low <= -20 <= found.high
        assert held >= 42

    def test_draws_beside_a_base_that_has_one(self):
        base, own = self.pair()
        drawn = own + [with_(r, seed=1) for r in own]
        one, two = (calibration_change(each, base, seed=0) for each in (own, drawn))
        assert (two.value, two.low, two.high) == pytest.approx((one.value, one.low, one.high))


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


def test_different_questions_are_counted_and_refused():
    a, b = flipped(1, 1, 10)
    with pytest.raises(DataError, match="3 ids"):
        stats.compare(a[:-2], b[1:], seed=0)


def test_nothing_to_compare():
    with pytest.raises(DataError, match="got none"):
        stats.compare([], [], seed=0)


def test_a_sample_twice_is_refused():
    a, b = flipped(1, 1, 10)
    with pytest.raises(DataError, match="two of '000'"):
        stats.compare(a + a[:1], b, seed=0)


def test_no_cost_to_divide_by():
    with pytest.raises(DataError, match="cost"):
        stats.compare(records("a", [1, 0]), records("b", [1, 0], cost=0.0), seed=0)


def test_holm_as_statsmodels_adjusts():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(size=30).round(2) ** 3  # some alike
    assert stats.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


@pytest.mark.parametrize(("n", "room"), [(9, 1e-12), (60, 0.01)], ids=["all signs", "drawn signs"])
def test_sign_flips_as_scipy_permutes(n, room):
    values = np.random.default_rng(1).normal(0.25, 1, n)
    tried = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=2)
    assert stats.sign_flip_p([values], seed=0) == pytest.approx(tried.pvalue, abs=room)
