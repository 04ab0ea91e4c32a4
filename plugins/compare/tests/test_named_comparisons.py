"""What a protocol's comparisons come to, by hand; and what is refused."""

import re

import pytest
from c3po_compare.compared import made_again
from c3po_compare.named_comparisons import NamedComparisons
from c3po_compare.paired_runs import Run
from c3po_compare.protocol import Protocol
from records.made import answered
from scipy.stats import norm, t, ttest_1samp

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.over_kinds import compare_over_kinds
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError


def run(model, arms, *, dataset="bed", without=()):
    """A model's answers: by arm and kind a text of 0 and 1, a question each."""
    return Run(
        model,
        [
            answered(arm=arm, dataset=dataset, subject=kind, id=f"{kind}-{i}", correct=one == "1", scores=[0.0, -1.0])
            for arm, kinds in arms.items()
            for kind, right in kinds.items()
            for i, one in enumerate(right)
            if f"{kind}-{i}" not in without
        ],
    )


def made(comparisons, *runs, **protocol):
    asked = Protocol(**{"unit": "question", "comparisons": comparisons, **protocol})
    return NamedComparisons(asked, runs).made(asked.unit)


def one(comparison, *runs, **protocol):
    (found,) = made([{"a": "a", "b": "b", "primary": True, **comparison}], *runs, **protocol)
    return found


FIRST = run("m", {"a": {"x": "1110", "y": "11"}, "b": {"x": "1000", "y": "11"}})
"""By question a is right twice more in six: on x in two of four, on y in none."""
SECOND = run("n", {"a": {"x": "1111", "y": "00"}, "b": {"x": "0000", "y": "10"}})


class TestUnits:
    def test_one_models_questions_are_compared_as_in_a_run(self):
        found = one({}, FIRST)
        sides = [[r for r in FIRST.records if r.arm == arm] for arm in "ab"]
        as_ever = stats.compare(*sides, seed=0)
        for name in ("n", "difference", "ci_low", "ci_high", "p", "error", "detectable"):
            assert getattr(found, name) == getattr(as_ever, name)
        assert (found.units, found.draws) == (6, 1)

    def test_by_t_over_kinds_it_is_scipys(self):
        kinds = {"x": "1110", "y": "1100", "z": "1111", "w": "0000"}
        runs = [run("m", {"a": kinds, "b": dict.fromkeys(kinds, "1000")})]
        asked = Protocol(unit="kind", interval="t", comparisons=[{"a": "a", "b": "b", "primary": True}])
        (found,), (wider,) = NamedComparisons(asked, runs).made("kind"), made_again(asked, runs)
        expected = ttest_1samp([50, 25, 75, -25], 0)
        assert (found.ci_low, found.ci_high) == pytest.approx(tuple(expected.confidence_interval()))
        assert found.p == pytest.approx(expected.pvalue)
        assert wider == one({}, *runs, unit="kind") and wider.ci_low <= found.ci_low

    def test_a_question_counts_once_however_many_models_answered_it(self):
        found = one({}, FIRST, SECOND)
        assert (found.n, found.units) == (12, 6)
        each = [(0 + 1) / 2, (1 + 1) / 2, (1 + 1) / 2, (0 + 1) / 2, (0 - 1) / 2, 0]
        assert found.difference == pytest.approx(100 * sum(each) / 6)

    def test_kinds_are_compared_as_in_a_run_and_their_models_pooled(self):
        sides = [[r for r in FIRST.records if r.arm == arm] for arm in "ab"]
        as_ever, found = compare_over_kinds(*sides, seed=0), one({"unit": "kind"}, FIRST)
        for name in ("difference", "ci_low", "ci_high", "p", "error", "detectable"):
            assert getattr(found, name) == getattr(as_ever, name)
        both = one({"unit": "kind"}, FIRST, SECOND)
        assert both.difference == pytest.approx(100 * ((2 + 4) / 8 + (0 - 1) / 4) / 2)
        assert (both.units, both.n) == (2, 12)

    def test_sources_are_the_protocols_or_the_beds(self):
        arms = {"a": {"x": "11", "y": "00", "sciq": "10"}, "b": {"x": "00", "y": "00", "sciq": "00"}}
        found = one({"unit": "source"}, run("m", arms), sources={"x": "one", "y": "one"})
        assert (found.units, found.difference) == (2, pytest.approx(100 * (2 / 4 + 1 / 2) / 2))
        with pytest.raises(DataError, match="source data set of the kind 'x'"):
            one({"unit": "source"}, run("m", arms), sources={"y": "one"})

    def test_models_with_questions_of_their_own_count_alike_or_their_answers_do(self):
        more = run("n", {"a": {"x": "1111", "y": "0000"}, "b": {"x": "0000", "y": "0000"}})
        less = run("m", {"a": {"x": "10", "y": "00"}, "b": {"x": "10", "y": "00"}})
        by_model, by_answer = (
            one({"unit": "kind"}, more, less, groups={"g": {"questions": "own", "weights": weights}}).difference
            for weights in ("model", "question")
        )
        assert by_model == pytest.approx(100 * ((1 + 0) / 2 + 0) / 2)
        assert by_answer == pytest.approx(100 * (4 / 6 + 0) / 2)
        common = one({"unit": "kind"}, more, less, groups={"g": {"questions": "common"}})
        assert (common.n, common.difference) == (8, pytest.approx(100 * (2 / 4 + 0) / 2))

    def test_other_measures_are_in_their_own_units(self):
        found = one({"measure": "loss"}, FIRST)
        assert found.difference == pytest.approx(0) and "nats" in found.sentence and found.detectable is None


class TestSides:
    def test_a_gain_less_a_gain_is_by_the_wider_of_bootstrap_and_student(self):
        again = run("m", {"a": {"x": "0000", "y": "11"}, "b": {"x": "1000", "y": "11"}}, dataset="written")
        both = Run("m", [*FIRST.records, *again.records])
        found = one({"a": {"arm": "a", "less": "b"}, "b": (), "between": {"dataset": ["bed", "written"]}}, both)
        each = [0 + 1, 1, 1, 0, 0, 0]
        assert found.difference == pytest.approx(100 * sum(each) / 6)
        assert (found.a, found.b) == ("a over b (bed)", "a over b (written)")
        mean, error = 0.5, (6 * 0.25 / 5 / 6) ** 0.5
        assert found.ci_high == pytest.approx(100 * (mean + t.ppf(0.975, 5) * error))

    def test_the_same_arm_of_two_models(self):
        found = one({"a": {"arm": "a", "model": "n"}, "b": {"arm": "a", "model": "m"}}, FIRST, SECOND)
        assert (found.n, found.difference) == (6, pytest.approx(100 * (1 - 2) / 6))

    def test_groups_choose_models_data_sets_and_kinds(self):
        asked = {"some": {"models": "m", "kinds": "x"}, "others": {"models": "n", "without": "x"}}
        some, others = made([{"a": "a", "b": "b"}], FIRST, SECOND, groups=asked)
        assert (some.on, some.difference, others.on, others.difference) == ("some", 50, "others", -50)

    def test_made_apart_and_said_where_a_side_is_lacking(self):
        alone = Run("n", [r for r in SECOND.records if r.arm == "a"])
        of = NamedComparisons(
            Protocol(unit="question", comparisons=[{"a": "a", "b": "b", "by": "model"}]), [FIRST, alone]
        )
        assert [found.on for found in of.made("question")] == ["m"]
        assert of.left_out == ["n: a − b, for there are no answers of b"]


class TestTests:
    def test_primary_ones_are_alone_and_families_apart_and_each_is_made_once(self):
        arms = {"a": {"x": "1" * 9}, "b": {"x": "0" * 9}, "c": {"x": "0" * 8 + "1"}, "d": {"x": "0" * 3 + "1" * 6}}
        asked = [
            {"a": "a", "b": ["b", "c"]},
            {"a": "a", "b": "b", "primary": True},
            {"a": ["a", "b"], "b": ["c", "d"], "family": "another"},
            {"a": "b", "b": "c", "family": None, "measure": "loss"},
        ]
        primary, lone, *again, looked = made(asked, run("m", arms))
        assert (primary.primary, primary.p_holm, primary.p) == (True, primary.p, 2 / 2**9)
        assert (lone.b, lone.family, lone.p_holm) == ("c", "secondary", lone.p), "the other is primary"
        assert [(c.a, c.b, c.p) for c in again] == [("a", "d", 2 / 2**3), ("b", "c", 1), ("b", "d", 2 / 2**6)]
        assert [c.p_holm for c in again] == [2 * 2 / 2**3, 1, 3 * 2 / 2**6], "of three, for a − c is made"
        assert (looked.verdict, looked.p_holm) == ("not tested", looked.p)

    def test_what_is_looked_at_takes_nothing_out_of_a_family(self):
        arms = {"a": {"x": "1" * 9}, "b": {"x": "0" * 9}, "c": {"x": "0" * 8 + "1"}}
        asked = [{"a": "a", "b": ["b", "c"]}, {"a": "a", "b": "b", "family": None}]
        for order in (asked, asked[::-1]):
            found = made(order, run("m", arms))
            assert [(c.b, c.family) for c in found] == [("b", "secondary"), ("c", "secondary")]
            assert found[0].p_holm == 2 * found[0].p

    def test_two_one_sided_tests_by_the_interval_that_is_shown(self):
        right = {"x": "1" * 200 + "0" * 200}
        other = {"x": "1" * 180 + "0" * 20 + "1" * 20 + "0" * 180}
        runs = run("m", {"a": right, "b": other})
        found = one({"test": "equivalence", "within": 5}, runs)
        assert found.difference == 0
        errors = [end / norm.ppf(0.975) for end in (-found.ci_low, found.ci_high)]
        assert found.p == pytest.approx(max(norm.sf(5 / error) for error in errors))
        assert found.verdict == "equivalent"
        assert one({"test": "equivalence", "within": 2}, runs).verdict == "not shown"

    def test_not_worse_is_one_sided_and_a_loss_is_better_below(self):
        better = run("m", {"a": {"x": "1" * 40}, "b": {"x": "1" * 20 + "0" * 20}})
        assert one({"test": "noninferiority", "within": 3}, better).verdict == "not worse"
        back = {"a": "b", "b": "a", "test": "noninferiority", "within": 3}
        assert one(back, better).verdict == "not shown"
        assert one(back | {"test": "equivalence"}, better).verdict == "not shown"
        for arm, low, word in (("a", -3.0, "better"), ("b", -0.1, "worse")):
            scores = [
                answered(arm=one, id=str(i), scores=[0.0, low + i / 100 if one == arm else -1.0])
                for one in "ab"
                for i in range(9)
            ]
            found = one({"a": arm, "b": "ab".replace(arm, ""), "measure": "loss"}, Run("m", scores))
            assert found.verdict == word, "whatever is right"

    def test_kinds_without_a_flip_are_no_certainty(self):
        alike = dict.fromkeys("vwxyz", "1" * 10)
        found = one({"unit": "kind", "test": "equivalence", "within": 3}, run("m", {"a": alike, "b": alike}))
        assert found.verdict == "not shown" and found.ci_high > 7
        many = dict.fromkeys("vwxyz", "1" * 100)
        found = one({"unit": "kind", "test": "equivalence", "within": 3}, run("m", {"a": many, "b": many}))
        assert found.verdict == "equivalent"

    def test_the_smallest_difference_of_interest_is_in_the_verdict(self):
        runs = run("m", {"a": {"x": "1" * 30}, "b": {"x": "0" * 30}})
        assert one({"least": 50}, runs).verdict == "better by 50 or more"
        alike = run("m", {"a": {"x": "1" * 300}, "b": {"x": "1" * 300}})
        assert one({"least": 3}, alike).verdict == "not shown, less than 3"

    def test_a_sentence_has_two_numbers_at_most(self):
        tests = [{}, {"test": "equivalence", "within": 3}, {"test": "noninferiority", "within": 3}, {"measure": "loss"}]
        for test in (*tests, {"primary": False, "family": None}):
            for a, b in ("ab", "ba"):
                said = one({"a": a, "b": b, "least": 2, **test}, FIRST).sentence
                assert len(re.findall(r"\d+(?:\.\d+)?", said)) in (1, 2), said

    def test_rows_and_curves(self):
        asked = {"x": "labels", "b": "b", "group": "all"}
        curve = asked | {"lines": {"a": {1: "a", 3: {"arm": "a", "model": "n"}}}}
        protocol = Protocol(unit="kind", comparisons=[{"a": "a", "b": "b"}], curves={"labels": curve},
                            groups={"all": {"models": "m"}})  # fmt: skip
        of = NamedComparisons(protocol, [FIRST, SECOND])
        (row,) = (row for row in of.rows() if row.arm == "a")
        assert (row.n, row.accuracy, row.no_choice) == (6, 100 * (3 / 4 + 1) / 2, 0)
        first, third = of.curve(protocol.curves["labels"])
        assert (first.x, first.difference, third.x, third.difference) == (1, 25, 3, 100 * (1 - 0.5) / 2)


class TestRefused:
    def test_names_that_no_answer_has(self):
        for given, near in (
            ({"a": "aa"}, "arm"),
            ({"a": {"arm": "a", "model": "mm"}}, "model"),
            ({"a": {"arm": "a", "dataset": "bd"}}, "dataset"),
        ):
            with pytest.raises(UnknownNameError, match=rf"{near}.*got '\w+'; "):
                one(given, FIRST)
        with pytest.raises(UnknownNameError, match="kind of the answers, got 'z'"):
            one({}, FIRST, groups={"g": {"kinds": "z"}})

    def test_questions_that_others_have(self):
        short = run("n", {"a": {"x": "1111", "y": "00"}, "b": {"x": "0000", "y": "10"}}, without=["x-3"])
        with pytest.raises(DataError, match=r"a − b on all: Expected the models m, n .* got 1 of 'm'.*'x-3' of 'bed'"):
            one({}, FIRST, short)
        with pytest.raises(DataError, match=r"or, .*own"):
            one({}, FIRST, short, groups={"g": {"questions": "own"}})
        assert one({}, FIRST, short, groups={"g": {"questions": "common"}}).n == 10
        apart = run("n", {"a": {"z": "10"}, "b": {"z": "11"}})
        with pytest.raises(DataError, match="that all models of the group answered, got none"):
            one({}, FIRST, apart, groups={"g": {"questions": "common"}})
        part = Run("m", [r for r in FIRST.records if (r.arm, r.id) != ("b", "y-1")])
        with pytest.raises(DataError, match=r"both sides .* got 1 .*'y-1' of 'bed' by 'm'.*questions: common"):
            one({}, part)

    def test_models_and_data_sets_that_neither_side_answered(self):
        other = run("n", {"c": {"x": "1111"}})
        with pytest.raises(DataError, match="each model of the group, got none of n"):
            one({}, FIRST, other)
        assert one({}, FIRST, other, groups={"g": {"models": "m"}}).n == 6
        more = Run("m", [*FIRST.records, *run("m", {"c": {"x": "1"}}, dataset="more").records])
        with pytest.raises(DataError, match="each data set of the group, got none of more"):
            one({}, more)

    def test_one_comparison_with_two_smallest_differences_of_interest(self):
        for primary, again in ((3, 5), (None, 5)):
            with pytest.raises(SettingError, match=f"one least of a − b on all, got {primary or 'none'}.* and 5"):
                made([{"a": "a", "b": "b", "least": n, "primary": n == primary} for n in (again, primary)], FIRST)
        found = made([{"a": "a", "b": "b", "least": 5, "primary": True}, {"a": "a", "b": "b"}], FIRST)
        assert [one.least for one in found] == [5]

    def test_a_single_unit(self):
        with pytest.raises(DataError, match="several kinds"):
            one({"unit": "kind"}, run("m", {"a": {"x": "11"}, "b": {"x": "10"}}))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"comparisons": [{"a": "a", "b": "b", "famly": "x"}]}, "did you mean 'family'"),
            ({"comparisons": [{"a": "a", "b": "b", "test": "equivalence"}]}, "within: BOUND"),
            ({"comparisons": [{"a": "a", "b": "b", "within": 3}]}, "within: BOUND"),
            ({"comparisons": [{"a": ["a", "b"], "b": "b"}]}, "two sides, got b twice"),
            ({"comparisons": [{"a": "a"}]}, "b or between"),
            ({"comparisons": [{"a": "a", "b": "b", "group": "al"}]}, "did you mean 'all'"),
            ({"comparisons": [{"a": "a", "b": "b"}], "forests": {"f": {"families": "primry"}}}, "families"),
            ({"comparisons": [{"a": "a", "b": "b"}], "forests": {"../f": {}}}, "that a file can have"),
            ({"comparisons": [{"a": "a", "b": "b"}], "second_unit": "question"}, "another second_unit"),
            ({"comparisons": [{"a": "a", "b": "b"}], "alpha": 0.2}, "alpha"),
            ({"comparisons": []}, "comparisons"),
        ],
    )
    def test_protocols_that_say_nothing_clear(self, given, said):
        with pytest.raises(SettingError, match=said):
            Protocol(**{"unit": "question", **given})
