"""Arms in several draws: what is paired with what, intervals over questions and draws alike, and p among draws."""

import numpy as np
import pytest
from records.made import answered, sentences, summarize
from scipy.stats import ttest_1samp

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.crossed import crossed
from c3po_adaptive.analysis.power import detectable
from c3po_adaptive.analysis.repeated_controls import among_draws
from c3po_adaptive.errors import DataError


def records(arm, columns, dataset="demo", **setting):
    """Of an arm: a column of right and wrong for each seed."""
    known = {"dataset": dataset, "arm": arm, "setting": {"optimizer": {"name": arm}, **setting}}
    return [
        answered(id=f"{i:03d}", seed=seed, correct=bool(c), scores=[float(c), 0.0], **known)
        for seed, column in enumerate(columns)
        for i, c in enumerate(column)
    ]


class TestPairing:
    def test_an_arm_answered_once_stands_beside_every_draw(self):
        a, b = records("a", [[1, 1, 0], [1, 0, 0]]), records("b", [[0, 1, 0]])
        (found,) = stats.differences(a, b, stats.is_correct).values()
        assert found.tolist() == [[1, 1], [0, -1], [0, 0]]
        (turned,) = stats.differences(b, a, stats.is_correct).values()
        assert (turned == -found).all()
        assert stats.compare(a, b, seed=0).draws == 2
        assert stats.gains_of_draws(a, b) == pytest.approx([100 / 3, 0])

    def test_whatever_the_seed_of_the_one_is(self):
        a, b = records("a", [[1, 1, 0], [1, 0, 0]]), records("b", [[0, 1, 0]])
        late = [r.model_copy(update={"seed": 5}) for r in b]
        assert (
            stats.gains_of_draws(a, late) == stats.gains_of_draws(a, b) == [-g for g in stats.gains_of_draws(late, a)]
        )

    def test_draws_that_both_have_are_paired(self):
        a, b = records("a", [[1, 1], [0, 0], [1, 0]]), records("b", [[1, 0], [0, 0]])
        (found,) = stats.differences(a, b, stats.is_correct).values()
        assert found.tolist() == [[0, 0], [1, 0]]

    def test_draws_apart_cannot_be_compared(self):
        a = records("a", [[1], [0]])
        b = [r.model_copy(update={"seed": r.seed + 2}) for r in records("b", [[1], [1]])]
        with pytest.raises(DataError, match="no draw that both have"):
            stats.compare(a, b, seed=0)

    def test_a_draw_with_holes_is_refused(self):
        with pytest.raises(DataError, match="answer its 2 questions, got 1 with seed 1"):
            stats.compare(records("a", [[1, 1], [1]]), records("b", [[0, 0]]), seed=0)


class TestUnfinished:
    """Two batches of two questions, of which four draws answered the first, the second, the first, and both."""

    def cut(self):
        first, second = ("000", "001"), ("002", "003")
        drawn = records("a", [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
        return [r for r in drawn if r.id in (first, second, first, first + second)[r.seed]]

    def test_draws_of_other_questions_are_left_out(self):
        base = records("base", [[0, 1, 0, 0]])
        rows = summarize([*base, *self.cut()], config={}, seed=0, missing=["some"])["rows"]
        (found,) = [row for row in rows if row["arm"] == "a"]
        assert (found["n"], found["draws"], found["accuracy"], found["gain"]) == (2, 2, 75, 25)


class TestInterval:
    @pytest.mark.parametrize("spread", [0.0, 0.02, 0.06])
    @pytest.mark.parametrize("draws", [3, 5])
    def test_covers_the_truth_over_draws(self, draws, spread):
        """Where an interval over questions alone does not, as every question of a draw moves together."""
        rng, hits, alone = np.random.default_rng(0), 0, 0
        for _ in range(400):
            each = 0.03 + rng.normal(0, 0.3, (150, 1)) + rng.normal(0, spread, (1, draws))
            each = each + rng.normal(0, 0.3, (150, draws))
            found = crossed([each])
            hits += found.low <= 0.03 <= found.high
            width = 1.96 * each[:, 0].std() / 150**0.5
            alone += abs(each[:, 0].mean() - 0.03) <= width
        assert 0.91 <= hits / 400 <= 0.985
        assert spread < 0.06 or alone / 400 < 0.75

    def test_p_agrees_with_the_interval(self):
        rng = np.random.default_rng(1)
        for _ in range(50):
            found = crossed([rng.normal(0.05, 0.3, (60, 4)) + rng.normal(0, 0.03, (1, 4))])
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)

    def test_of_several_data_sets_draws_move_all_of_them_together(self):
        """A better model is better everywhere: then more data sets do not make up for few models."""
        rng = np.random.default_rng(2)
        shift = rng.normal(0, 0.2, (1, 4))
        apart = [rng.normal(0, 0.1, (100, 4)) + rng.permuted(shift) for _ in range(6)]
        together = [rng.normal(0, 0.1, (100, 4)) + shift for _ in range(6)]
        assert crossed(together).error > 1.5 * crossed(apart).error

    def test_never_narrower_than_over_questions_alone(self):
        rng = np.random.default_rng(3)
        base, same = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
        b = records("b", [base])
        one, five = (stats.compare(records("a", [same] * k), b, seed=0) for k in (1, 5))
        assert (five.draws, five.difference) == (5, one.difference)
        assert five.ci_low <= one.ci_low + 0.2
        assert five.ci_high >= one.ci_high - 0.2
        nothing = stats.compare(records("a", [base] * 5), b, seed=0)
        assert nothing.ci_low < 0 < nothing.ci_high
        assert nothing.p == 1

    def test_widens_where_draws_differ(self):
        b = records("b", [[0, 1] * 100])
        alike = records("a", [[1, 1] + [0, 1] * 99] * 4)
        unlike = records("a", [[1] * k + [0, 1] * ((200 - k) // 2) for k in (0, 4, 20, 40)])
        narrow, wide = (stats.compare(a, b, seed=0) for a in (alike, unlike))
        assert wide.ci_high - wide.ci_low > 3 * (narrow.ci_high - narrow.ci_low)

    def test_of_the_likelihood_likewise(self):
        a = records("a", [[1, 0] * 20, [0, 0] * 20, [1, 1] * 20])
        alone = stats.paired_mean(records("a", [[1, 0] * 20]), records("b", [[0, 0] * 20]), stats.gold_nll, seed=0)
        found = stats.paired_mean(a, records("b", [[0, 0] * 20]), stats.gold_nll, seed=0)
        assert found.high - found.low > 2 * (alone.high - alone.low)


class TestPower:
    @pytest.mark.parametrize("comparisons", [1, 20, 555])
    @pytest.mark.parametrize(("n", "flips"), [(100, 0.1), (500, 0.2), (200, 0.02), (300, 0.0)])
    def test_a_gain_of_that_size_is_found_four_times_in_five(self, n, flips, comparisons):
        """Among others without any effect, after the correction that the verdict makes."""
        rng = np.random.default_rng(0)
        error = (flips / n) ** 0.5
        gain = detectable(error, n, comparisons)
        up = (max(flips, gain) + gain) / 2
        counts = rng.multinomial(n, [up, up - gain, 1 - 2 * up + gain], 600)
        others = [1.0] * (comparisons - 1)
        found = np.mean([stats.holm([stats.mcnemar_p(int(u), int(d)), *others])[0] < 0.05 for u, d, _ in counts])
        assert 0.72 <= found <= 0.88

    @pytest.mark.parametrize("comparisons", [1, 20])
    @pytest.mark.parametrize("draws", [3, 8])
    def test_of_few_draws_likewise(self, draws, comparisons):
        """Their test is by t, whose threshold is far higher."""
        rng = np.random.default_rng(1)
        gain = detectable(1.0, 10**6, comparisons, draws - 1)
        assert gain == 1, "in units of accuracy no more than one can be gained"
        gain = detectable(1e-3, 10**6, comparisons, draws - 1)
        values = rng.normal(gain, 1e-3 * draws**0.5, (4000, draws))
        found = np.mean(ttest_1samp(values, 0, axis=1).pvalue < 0.05 / comparisons)
        assert 0.77 <= found <= 0.83

    def test_six_questions_show_nothing(self):
        assert detectable(0.0, 5) == 1
        assert detectable(0.0, 6) == pytest.approx(0.8 ** (1 / 6)), "all of six"

    def test_stands_in_comparisons_and_rows(self):
        rows = summarize([*records("base", [[0, 1] * 50]), *records("a", [[1, 1] + [0, 1] * 49])], config={}, seed=0)
        base, a = rows["rows"]
        assert base["detectable"] is None
        assert a["detectable"] == rows["comparisons"][0]["detectable"] == pytest.approx(7.8, abs=0.1)

    def test_more_arms_make_less_detectable(self):
        """Of fifty arms the one that gains is held to 0.05 / 50, and so is what could have been found."""
        arms = [records(f"a{i}", [[1, 1] + [0, 1] * 49]) for i in range(50)]
        summary = summarize([*records("base", [[0, 1] * 50]), *(r for own in arms for r in own)], config={}, seed=0)
        row = summary["rows"][1]
        error = summary["comparisons"][0]["error"] / 100
        assert row["detectable"] == pytest.approx(100 * detectable(error, 100, 50))
        assert row["detectable"] > 1.4 * 7.8
        assert "points would have been found after Holm's correction, with power 0.8" in row["because"]


DRAWN = {"control_of": ["own"], "varies": ["labels drawn at random"]}


def drawn(count, gain, n=100, high=0):
    """A control in ``count`` draws, ``high`` of which gain more than ``gain`` points."""
    right = [gain + 1 if k < high else gain - 1 for k in range(count)]
    return records("control", [[1] * k + [0] * (n - k) for k in right], labels="shuffled", **DRAWN)


class TestAmongDraws:
    own, base = records("own", [[1] * 10 + [0] * 90], labels="own"), records("base", [[0] * 100], changes="nothing")

    def test_no_p_below_ninety_nine_draws(self):
        found = among_draws("demo", self.own, drawn(98, 10), self.base)
        assert (found.draws, found.gain, found.p) == (98, 10, None)
        assert among_draws("demo", self.own, drawn(1, 10), self.base) is None

    @pytest.mark.parametrize(("high", "p"), [(0, 0.02), (2, 0.06), (99, 0.02), (97, 0.06), (50, 1.0)])
    def test_two_sided(self, high, p):
        """Below all draws is as rare as above all."""
        assert among_draws("demo", self.own, drawn(99, 10, high=high), self.base).p == pytest.approx(p)

    def test_ties_count_on_both_sides(self):
        control = records("control", [[1] * 10 + [0] * 90] * 99)
        assert among_draws("demo", self.own, control, self.base).p == 1

    def test_said_of_arms_and_their_controls(self):
        summary = summarize([*self.base, *self.own, *drawn(99, 4)], config={}, seed=0)
        (found,) = summary["draws"]
        assert (found["arm"], found["control"], found["draws"], found["p"]) == ("own", "control", 99, 0.02)
        assert found["mean"] == pytest.approx(3)
        said = sentences(summary)[-1]
        assert said.startswith("own (+10.0 [")
        assert said.endswith(
            "among 99 draws of control (+3.0 points on average, +3.0 to +3.0): p = 0.02, better than its draws."
        )
        (row,) = (row for row in summary["rows"] if row["arm"] == "control")
        assert (row["n"], row["draws"], row["gain"]) == (100, 99, pytest.approx(3))

    def test_fewer_say_so(self):
        everything = [*self.base, *self.own, *drawn(19, 4)]
        assert sentences(summarize(everything, config={}, seed=0))[-1].endswith("no p, which takes 99 draws.")
