"""Verdicts on planted truths: a gain by question, a leak, a bias of lengths, harm, and nothing at all."""

import numpy as np
import pytest
from records.made import sentences, summarize

from c3po_adaptive.analysis.matching_controls import controls_of
from c3po_adaptive.analysis.verdict import verdict
from c3po_adaptive.records.setting import Setting
from c3po_adaptive.records.summary import Comparison

NGD = {"optimizer": {"name": "ngd"}, "retriever": {"name": "near", "k": 300}, "labels": "own"}
BASE = {"optimizer": {"name": "none"}, "changes": "nothing"}
CORRECTED = {"answerer": {"name": "surface-logit"}, "calibrates": True}
SOME = {"selector": {"name": "gradient", "n": 2}}
CONSTANT = {"optimizer": {"name": "constant"}, "changes": "same"}


def drawn(words, of="ngd", **other):
    """A control of an arm, alike in all but what it draws."""
    return NGD | {"control_of": [of], "varies": [words]} | other


SETTINGS = {
    "base": BASE,
    "ngd": NGD,
    "random neighbours": drawn("random neighbours", retriever={"name": "random", "k": 300}),
    "shuffled labels": drawn("labels drawn at random", labels="shuffled"),
    "random change": drawn("changes in random directions"),
    "constant": CONSTANT,
    "calibrated": BASE | CORRECTED,
    "no step": {"optimizer": {"name": "none", "start": "core"}, "changes": "core"},
}
CONTROLS = [name for name in SETTINGS if name not in ("base", "ngd")]


def table(moved, *, n=600, datasets=("one",), seed=0, arms=tuple(SETTINGS)):
    """Records: the base is right on half of the questions; each arm turns ``(up, down)`` of all, by chance which."""
    rng = np.random.default_rng(seed)
    found = []
    for dataset in datasets:
        base = rng.random(n) < 0.5
        for arm in arms:
            up, down = moved.get(arm, (0.03, 0.03)) if arm != "base" else (0, 0)
            draw = rng.random(n)
            right = np.where(base, draw >= 2 * down, draw < 2 * up)
            found += [
                {"id": str(i), "dataset": dataset, "arm": arm, "choice": int(not c), "scores": [float(c), 0.0],
                 "setting": SETTINGS[arm]}
                for i, c in enumerate(right)
            ]  # fmt: skip
    return found


def judge(moved, **how):
    """Verdicts of the arm that is looked at, by data set."""
    summary = summarize(table(moved, **how), config={}, seed=0)
    return {row["dataset"]: row for row in summary["rows"] if row["arm"] == "ngd"}


class TestPlanted:
    def test_a_gain_by_question(self):
        row = judge({"ngd": (0.12, 0.02)})["one"]
        assert row["verdict"] == "helps beyond its controls"
        assert row["because"].startswith("better than each of 6, of which the nearest is ")
        assert row["controls"] == CONTROLS

    def test_a_bias_of_lengths_that_correcting_scores_mends(self):
        row = judge({"ngd": (0.12, 0.02), "calibrated": (0.13, 0.02), "constant": (0.05, 0.02)})["one"]
        assert row["verdict"] == "helps, but so does calibrated"

    @pytest.mark.parametrize("control", CONTROLS)
    def test_each_control_can_fail(self, control):
        """As random neighbours do where what is learned does not come from near questions."""
        row = judge({"ngd": (0.12, 0.02), control: (0.12, 0.02)})["one"]
        assert row["verdict"] == f"helps, but so does {control}"
        assert row["because"].startswith("that gains +")

    def test_nothing(self):
        row = judge({})["one"]
        assert row["verdict"] == "no evidence"
        assert "a gain of " in row["because"]
        assert row["ci_low"] < 0 < row["ci_high"]

    def test_harm(self):
        assert judge({"ngd": (0.02, 0.12)})["one"]["verdict"] == "harms"

    def test_each_data_set_has_its_own_and_all_of_them_one(self):
        found = judge({"ngd": (0.1, 0.02)}, datasets=("one", "two"))
        assert {name: row["verdict"] for name, row in found.items()} == dict.fromkeys(
            ("one", "two", "all"), "helps beyond its controls"
        )

    @pytest.mark.slow
    def test_nothing_planted_is_rarely_called_a_gain(self):
        """Holm holds the share of tables with any false claim below one in twenty."""
        how = {"n": 300, "arms": ("base", "ngd", "constant")}
        said = [judge({}, seed=seed, **how)["one"]["verdict"] for seed in range(40)]
        assert said.count("no evidence") >= 37

    def test_an_equal_control_is_rarely_called_beaten(self):
        moved = {"ngd": (0.2, 0.02), "constant": (0.2, 0.02)}
        how = {"n": 300, "arms": ("base", "ngd", "constant", "shuffled labels")}
        said = [judge(moved, seed=seed, **how)["one"]["verdict"] for seed in range(30)]
        assert said.count("helps beyond its controls") <= 3
        assert said.count("helps, but so does constant") >= 26


def c(b, difference, half, p=None, p_holm=None):
    p = (0.001 if abs(difference) > half else 0.5) if p is None else p
    ends = {"ci_low": difference - half, "ci_high": difference + half}
    adjusted = {"p": p, "p_holm": p if p_holm is None else p_holm}
    rest = {"dataset": "one", "a": "ngd", "n": 100, "error": 1, "draws": 1, "cost_ratio": 1, "detectable": 4}
    return Comparison.model_validate({"b": b, "difference": difference, **ends, **adjusted, **rest})


def said(gain, beside=(), gains=None, p_beyond=0.001, chance=("x",)):
    return verdict(gain, list(beside), gains or {}, p_beyond, chance)


class TestRule:
    def test_a_gain_without_any_control_has_no_verdict(self):
        found = said(c("base", 5, 2))
        assert found.name is None
        assert found.because == "it gains, and no control of it was run"
        assert said(c("base", -5, 2)).name == "harms", "that takes none"
        assert said(c("base", 1, 2)).name == "no evidence"

    def test_an_interval_above_zero_with_too_large_a_p_says_so(self):
        found = said(c("base", 3, 2, p=0.06))
        assert (found.name, found.because.partition(";")[0]) == ("no evidence", "p = 0.06")
        assert said(c("base", 1, 2)).because.startswith("the interval holds zero;")

    def test_a_gain_that_holm_takes_back_is_none(self):
        found = said(c("base", 3, 2, p=0.01, p_holm=0.2), [c("x", 3, 2)], {"x": c("base", 0, 2)})
        assert (found.name, found.because) == ("no evidence", "not after Holm's correction, p = 0.2")

    def test_what_is_not_told_from_a_control_that_gains_nothing_is_no_evidence(self):
        found = said(c("base", 3, 2), [c("x", 2, 3)], {"x": c("base", 1, 2)})
        assert found.name == "no evidence"
        assert "not told from x (+2.0 [-1.0, 5.0]), which is not shown to gain" in found.because

    def test_beating_every_control_counts_after_holm_alone(self):
        beside = [c("x", 3, 2, p=0.02), c("y", 4, 2, p=0.001)]
        gains = {"x": c("base", 2, 1), "y": c("base", 1, 2)}
        assert said(c("base", 5, 2), beside, gains, p_beyond=0.04).name == "helps beyond its controls"
        found = said(c("base", 5, 2), beside, gains, p_beyond=0.06)
        assert found.name == "helps, but so does x"
        assert "and is not beaten after Holm's correction: +3.0 [1.0, 5.0]" in found.because
        lost = said(c("base", 5, 2), beside, gains | {"x": c("base", 1, 2)}, p_beyond=0.06)
        assert lost.name == "no evidence"

    def test_beating_controls_of_which_none_is_of_chance_is_no_verdict(self):
        beside, gains = [c("x", 3, 2), c("y", 4, 2)], {"x": c("base", 2, 1), "y": c("base", 1, 2)}
        found = said(c("base", 5, 2), beside, gains, chance=())
        assert found.name is None
        assert found.because == "better than each of 2 controls, but none leaves anything to chance"

    def test_of_several_that_gain_the_best_is_named(self):
        beside = [c("x", 1, 3), c("y", 0, 3), c("z", 4, 3)]
        gains = {"x": c("base", 4, 2), "y": c("base", 5, 2), "z": c("base", 9, 2)}
        assert said(c("base", 5, 2), beside, gains).name == "helps, but so does y"

    def test_a_control_that_does_better_is_not_beaten(self):
        assert said(c("base", 5, 2), [c("x", -4, 2)], {"x": c("base", 9, 2)}).name == "helps, but so does x"


def controls(arm, settings):
    return controls_of(arm, {name: Setting.model_validate(setting) for name, setting in settings.items()})


class TestControls:
    @pytest.mark.parametrize(
        ("arm", "found"),
        [
            ("ngd", CONTROLS),
            ("constant", ["calibrated", "no step"]),
            *((name, []) for name in ("base", "calibrated", "no step", "random neighbours", "shuffled labels")),
        ],
    )
    def test_by_settings(self, arm, found):
        assert controls(arm, SETTINGS) == found

    def test_own_ones_say_whose_they_are(self):
        of_others = {"other": NGD | {"loss": "lead"}, "of other": drawn("random neighbours", of="other")}
        assert controls("ngd", SETTINGS | of_others) == CONTROLS
        assert controls("other", {"ngd": NGD, **of_others}) == ["of other"]

    def test_what_leaves_two_things_to_chance_is_shared_by_nobody(self):
        both = CONSTANT | {"varies": ["labels drawn at random"]}
        assert controls("ngd", {"ngd": NGD, "other": both}) == []
        assert Setting.model_validate(both).only_a_control

    def test_only_the_base_s_corrected_scores_are_shared(self):
        """Those of another arm are a method of their own, with the base's as a control."""
        tuned = {"answerer": {"name": "length-exponent", "of": {"name": "lora"}}, "calibrates": True}
        settings = {
            "ngd": NGD,
            "calibrated": SETTINGS["calibrated"],
            "tuned": tuned,
            "ngd, calibrated": NGD | CORRECTED,
        }
        assert controls("ngd", settings) == ["calibrated"]
        assert controls("tuned", settings) == controls("ngd, calibrated", settings) == ["calibrated"]

    def test_what_is_corrected_is_held_against_controls_that_are(self):
        """Else two controls that add up would look like more than each of them."""
        other = {"answerer": {"name": "length-exponent"}, "calibrates": True}
        settings = SETTINGS | {
            "ngd, calibrated": NGD | CORRECTED,
            "constant, calibrated": CONSTANT | CORRECTED,
            "shuffled labels, calibrated": drawn("labels drawn at random", "ngd, calibrated", **CORRECTED),
            "constant, by length": CONSTANT | other,
        }
        shared = ["constant", "calibrated", "no step"]
        own = ["constant, calibrated", "shuffled labels, calibrated"]
        assert controls("ngd, calibrated", settings) == [*shared, *own]
        assert controls("constant, calibrated", settings) == shared
        assert controls("ngd", settings) == CONTROLS

    def test_an_answerer_has_those_of_its_own_too(self):
        vote = {"answerer": {"name": "neighbour-vote"}, "retriever": {"name": "near"}, "labels": "own"}
        settings = SETTINGS | {"vote": vote, "far": vote | {"control_of": ["vote"], "varies": ["random neighbours"]}}
        assert controls("vote", settings) == ["constant", "calibrated", "no step", "far"]


class TestDeciding:
    """What an arm re-mixes by says which controls its gain has to be told from, whatever others it beats."""

    LACKS = (
        (NGD, ["shuffled labels"], "random neighbours"),
        (NGD | SOME, ["random neighbours"], "random layers"),
        (NGD | {"one_for_all": "constant"}, ["random neighbours"], "one change for all questions"),
        (NGD | {"one_for_all": None}, ["random neighbours", "constant"], "one change for all questions"),
        (NGD | SOME | {"one_for_all": None}, ["no step", "random change"],
         "random neighbours or random layers or one change for all questions"),
    )  # fmt: skip

    def judged(self, setting, controls, monkeypatch, **others):
        for name, other in {"ngd": setting, **others}.items():
            monkeypatch.setitem(SETTINGS, name, other)
        return judge({"ngd": (0.2, 0.02)}, n=300, arms=("base", "ngd", *controls))["one"]

    @pytest.mark.parametrize(("setting", "controls", "words"), LACKS)
    def test_without_one_no_gain_goes_beyond(self, monkeypatch, setting, controls, words):
        row = self.judged(setting, controls, monkeypatch)
        assert row["verdict"] is None
        assert row["because"] == f"better than each of {len(controls)} controls, but none has {words}"

    def test_with_each_it_does(self, monkeypatch):
        layers = drawn("random layers", selector={"name": "random", "n": 2})
        setting = NGD | SOME | {"one_for_all": "constant"}
        controls = ["random neighbours", "constant", "layers"]
        assert self.judged(setting, controls, monkeypatch, layers=layers)["verdict"] == "helps beyond its controls"

    def test_one_for_all_of_steps_that_name_none_says_whose_it_is(self, monkeypatch):
        once = CONSTANT | {"control_of": ["ngd"]}
        row = self.judged(NGD | {"one_for_all": None}, ["random neighbours", "constant"], monkeypatch, constant=once)
        assert row["verdict"] == "helps beyond its controls"

    @pytest.mark.parametrize(
        "setting",
        [
            NGD | {"selector": {"name": "fixed", "layers": "all"}},
            NGD | {"one_for_all": "constant", "changes": "same"},
            NGD | SOME | {"answerer": {"name": "neighbour-vote"}},
        ],
    )
    def test_what_it_does_not_choose_is_not_asked_for(self, monkeypatch, setting):
        assert self.judged(setting, ["random neighbours"], monkeypatch)["verdict"] == "helps beyond its controls"


class TestNoControlAfterAll:
    def row(self, **given):
        records = table({"ngd": (0.12, 0.02)})
        own = {r["id"]: r for r in records if r["arm"] == "ngd"}
        for r in records:
            if r["arm"] in ("random neighbours", "shuffled labels"):
                r |= {key: own[r["id"]][key] for key in ("scores", "choice")} | given.get(r["arm"], {})
        return next(row for row in summarize(records, config={}, seed=0)["rows"] if row["arm"] == "ngd")

    @pytest.mark.parametrize(("used", "labels", "all_drawn"), [(300, 300, True), (300, 301, False), (180, 300, True)])
    def test_all_references_drawn_at_random(self, used, labels, all_drawn):
        """That all of them reach the same says nothing; that other labels do says all. Of 300 labeled ones those that
        were answered right may be fewer than were asked for."""
        row = self.row(**{"random neighbours": {"neighbours_used": used, "labels": labels}})
        assert row["controls"] == [name for name in CONTROLS if name != "random neighbours" or not all_drawn]
        assert row["verdict"] == f"helps, but so does {'shuffled labels' if all_drawn else 'random neighbours'}"


def test_two_arms_that_are_controls_of_each_other_are_both_held_against():
    moved = {"ngd": (0.12, 0.02), "constant": (0.12, 0.02)}
    arms = ("base", "ngd", "constant")
    for named in ([], ["constant"]):
        records = [
            r | {"setting": NGD | {"control_of": named}} if r["arm"] == "ngd" else r for r in table(moved, arms=arms)
        ]
        records = [
            r | {"setting": CONSTANT | {"control_of": ["ngd"]}} if r["arm"] == "constant" else r for r in records
        ]
        summary = summarize(records, config={}, seed=0)
        said = {row["arm"]: row["verdict"] for row in summary["rows"]}
        of_constant = "helps, but so does ngd" if named else None
        assert said == {"base": None, "ngd": "helps, but so does constant", "constant": of_constant}


def test_holm_is_over_the_whole_table():
    """Gains of all arms on all data sets are one family, comparisons with controls another; and of the verdicts' third,
    one for each arm that has controls on a data set, each has the largest p of these.
    """
    summary = summarize(table({"ngd": (0.05, 0.02)}, n=100, datasets=("one", "two")), config={}, seed=0)
    for is_gain in (True, False):
        family = [x for x in summary["comparisons"] if (x["b"] == "base") == is_gain]
        least = min(family, key=lambda x: x["p"])
        assert {x["dataset"] for x in family} == {"one", "two", "all"}
        assert least["p_holm"] == pytest.approx(min(1, least["p"] * len(family)))
    judged = [row for row in summary["rows"] if row["controls"]]
    largest = {
        (row["dataset"], row["arm"]): max(
            x["p"]
            for x in summary["comparisons"]
            if (x["dataset"], x["a"]) == (row["dataset"], row["arm"]) and x["b"] in row["controls"]
        )
        for row in judged
    }
    assert len(largest) == 6
    assert min(row["p_beyond"] for row in judged) == pytest.approx(min(1, 6 * min(largest.values())))
    assert all(row["p_beyond"] is None for row in summary["rows"] if not row["controls"])


AUDITED = "Permuting the routers costs 0.9 points [-8.0, 9.8]."


class TestCannotTell:
    """A null result where nothing could have been found."""

    def judged(self, records, audited):
        summary = summarize(records, config={}, seed=0, audited=audited)
        return {row["arm"]: row for row in summary["rows"]}, summary

    def table(self, right=0.5, moved=None, arms=("base", "ngd", "constant")):
        """As ``table``, of four choices, the base right on a share of the questions."""
        found = table(moved or {}, arms=arms)
        by_id = {r["id"]: int(r["id"]) < right * 600 for r in found}
        for r in found:
            r["scores"] = [r["scores"][0], 0.0, -1.0, -1.0]
            if moved is None:
                r["choice"] = int(not by_id[r["id"]])
        return found

    def test_without_an_audit_nothing_changes(self):
        rows, summary = self.judged(self.table(0.25), None)
        assert rows["ngd"]["verdict"] == "no evidence"
        assert summary["audit"] is None

    def test_where_something_could_have_been_found_it_is_no_evidence(self):
        rows, summary = self.judged(self.table(), AUDITED)
        assert rows["ngd"]["verdict"] == "no evidence"
        assert rows["ngd"]["because"].startswith("the interval holds zero")
        assert summary["audit"] == AUDITED
        assert sentences(summary)[-1] == AUDITED

    def test_base_at_chance(self):
        rows, _ = self.judged(self.table(0.25), AUDITED)
        assert rows["ngd"]["verdict"] == "cannot tell"
        assert rows["ngd"]["because"].startswith("base (25.0 %) is not above chance (25.0 %); the interval holds zero")
        assert rows["base"]["verdict"] is None

    @pytest.mark.parametrize(("moved", "verdict"), [((0.03, 0.03), "cannot tell"), ((0.15, 0.02), "no evidence")])
    @pytest.mark.parametrize("control", ["lora", "sound-routing"])
    def test_a_positive_control_that_is_found_or_not(self, monkeypatch, moved, verdict, control):
        monkeypatch.setitem(SETTINGS, control, {"answerer": {"name": control}, "positive": True})
        rows, _ = self.judged(self.table(moved={control: moved}, arms=("base", "ngd", control)), AUDITED)
        assert rows["ngd"]["verdict"] == verdict
        assert (f"no positive control gains ({control})" in rows["ngd"]["because"]) == (verdict == "cannot tell")

    @pytest.mark.parametrize(("moved", "verdict"), [((0.02, 0.12), "harms"), ((0.2, 0.02), "helps beyond")])
    def test_what_is_found_stays_found(self, moved, verdict):
        records = self.table(moved={"ngd": moved}, arms=tuple(SETTINGS))
        rows, _ = self.judged(records, AUDITED)
        assert rows["ngd"]["verdict"].startswith(verdict)
