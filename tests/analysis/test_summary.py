"""The summary against a hand-computed example, and sentences against the rules for claims."""

import math
import re

import numpy as np
import pytest
from records.made import made, plain, row_of, sentences, summarize

from c3po_adaptive.analysis import strength_of_signal as signal
from c3po_adaptive.analysis.matching_controls import RANDOM_NEIGHBOURS, lacking_in_words
from c3po_adaptive.analysis.verdict import judge
from c3po_adaptive.errors import DataError
from c3po_adaptive.records.summary import Comparison, Summary
from c3po_adaptive.report import sentences as report

ROW = "dataset split arm role optimizer selector needs_label setting references format n draws chance"
ROW += (
    " base_accuracy accuracy gain ci_low ci_high detectable nll nll_difference nll_ci_low nll_ci_high calibration_error"
)
ROW += " calibration_difference calibration_ci_low calibration_ci_high flips_up flips_down"
ROW += " layers moved neighbours_used labels parameters cost controls p_beyond verdict because headline"
COMPARISON = "dataset a b n difference ci_low ci_high p error detectable draws cost_ratio p_holm headline primary unit"
COMPARISON += " kinds nll_difference nll_ci_low nll_ci_high"
CONTROL = "ngd-random-neighbours"


def answers(
    arm, correct, *, dataset="demo", split="test", optimizer="ngd", near=True, cost=6.0, layers=(3, 4), **setting
):
    setting = {"optimizer": {"name": optimizer}, "selector": {"name": "fixed"}} | setting
    return [
        {
            "id": f"{i}", "dataset": dataset, "split": split, "subject": "s", "arm": arm,
            "needs_label": optimizer == "oracle", "setting": setting,
            "seed": 0, "answer": 0, "choice": 1 - c, "correct": bool(c),
            "scores": [0.0, math.log(3)] if not c else [math.log(3), 0.0], "layers": list(layers),
            "neighbours": [{"id": "r", "similarity": 0.5, "weight": 1.0}] if near else [],
            "cost": {"embedding": 0.5, "attribution": 0.25, "optimisation": cost - 1.75, "total": cost},
        }
        for i, c in enumerate(correct)
    ]  # fmt: skip


def base(correct, **more):
    return answers("base", correct, optimizer="none", near=False, cost=1.0, layers=(), changes="nothing", **more)


def predicted_benefit(dataset, own, base, **how):
    return [plain(row) for row in signal.predicted_benefit(dataset, made(own), made(base), **how)]


def risk_by_coverage(dataset, own, **how):
    return [plain(row) for row in signal.risk_by_coverage(dataset, made(own), **how)]


def run(arms):
    return summarize(arms, config={"limit": 4}, seed=0)


def comparison(a, b, difference, ci_low, ci_high, p, p_holm=None):
    rest = {"dataset": "demo", "n": 100, "error": 1.0, "detectable": 4.0, "draws": 1, "cost_ratio": 1.0}
    ends = {"difference": difference, "ci_low": ci_low, "ci_high": ci_high, "p": p}
    return Comparison.model_validate({"a": a, "b": b, **ends, "p_holm": p if p_holm is None else p_holm, **rest})


def made_up(gain, control=None, p_holm=None, **values):
    """A summary of one arm whose comparisons are given as ``(difference, low, high, p)``."""
    rows = [row_of("base", 50.0, role="base", setting={"changes": "nothing"}), row_of("ngd", 50 + gain[0], **values)]
    gains, beside = [comparison("ngd", "base", *gain, p_holm)], []
    if control:
        drawn = {"varies": [RANDOM_NEIGHBOURS], "control_of": ["ngd"]}
        rows = [
            rows[0],
            rows[1].model_copy(update={"controls": (CONTROL,)}),
            row_of(CONTROL, 50.0, role="control", setting=drawn),
        ]
        gains.append(comparison(CONTROL, "base", 0, -1, 1, 1.0))
        beside.append(comparison("ngd", CONTROL, *control, 1.0))
    judged = judge(rows, gains, beside, {})
    rest = {"compare": (), "risk": (), "predicted": (), "agreement": (), "draws": (), "versions": {}, "seed": 0}
    made = {"baseline": "base", "rows": judged, "comparisons": gains + beside, "config": {}, "hashes": {}}
    return plain(Summary.model_validate(made | rest))


def test_rows_by_hand():
    summary = run(base([1, 1, 0, 0]) + answers("ngd", [1, 0, 1, 1], mix="core"))
    row = next(r for r in summary["rows"] if r["arm"] == "ngd")
    assert list(row) == ROW.split()
    assert (row["n"], row["accuracy"], row["gain"], row["flips_up"], row["flips_down"]) == (4, 75, 25, 2, 1)
    assert row["ci_low"] < 0 < 25 < row["ci_high"]
    assert row["nll"] == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 4)
    assert row["layers"] == 2
    cost = {"prefill": 0, "embedding": 0.5, "attribution": 0.25, "optimisation": 4.25, "total": 6, "once": None}
    assert row["cost"] == cost
    assert row["setting"] == {"optimizer": {"name": "ngd"}, "selector": {"name": "fixed"}, "mix": "core"}


def test_chance_and_base_stand_in_every_row():
    """Chance is the mean over questions of one over their choices; of several sets, the mean over them."""
    scored = {"scores": [0.0, 0.0, 0.0, 0.0]}
    arms = base([1, 1, 0, 0], dataset="a") + base([1, 0], dataset="b")
    arms += answers("ngd", [1, 1, 1, 0], dataset="a") + answers("ngd", [1, 1], dataset="b")
    arms = [r | scored if r["dataset"] == "a" and r["id"] in "01" else r for r in arms]
    found = {(r["dataset"], r["arm"]): (r["chance"], r["base_accuracy"], r["accuracy"]) for r in run(arms)["rows"]}
    assert found["a", "base"] == (37.5, 50, 50)
    assert found["a", "ngd"] == (37.5, 50, 75)
    assert found["b", "ngd"] == (50, 50, 100)
    assert found["all", "ngd"] == (43.75, 50, 87.5)


def test_base_gains_nothing_by_definition():
    row = run(base([1, 1, 0, 0]))["rows"][0]
    assert (row["gain"], row["ci_low"], row["ci_high"], row["layers"]) == (0, 0, 0, 0)


def test_comparisons_with_base_and_control():
    arms = base([1, 1, 0, 0]) + answers("ngd", [1, 0, 1, 1])
    arms += answers(CONTROL, [1, 1, 1, 0], cost=3.0, control_of=["ngd"], varies=[RANDOM_NEIGHBOURS])
    arms += answers("longer", [1, 0, 1, 1], mix="core")  # the control of another method is none of its
    arms += answers("oracle", [1, 1, 1, 1], optimizer="oracle", near=False)
    summary = run(arms)
    pairs = {(c["a"], c["b"]): c for c in summary["comparisons"]}
    with_base = {(arm, "base") for arm in ("ngd", CONTROL, "longer", "oracle")}
    assert set(pairs) == {*with_base, ("ngd", CONTROL)}
    assert all(list(c) == COMPARISON.split() for c in pairs.values())
    assert pairs["ngd", CONTROL]["difference"] == 0
    assert pairs["ngd", CONTROL]["cost_ratio"] == pytest.approx(2)
    assert pairs["oracle", "base"]["p"] == pytest.approx(0.5)
    assert pairs["oracle", "base"]["p_holm"] == 1


def test_all_is_added_to_several_data_sets_only():
    assert {r["dataset"] for r in run(base([1, 0]))["rows"]} == {"demo"}
    arms = base([1, 1], dataset="a") + base([1, 0, 0, 0], dataset="b", split="validation")
    arms += answers("ngd", [1, 1], dataset="a", head="exact", mix="core")
    arms += answers("ngd", [1, 1, 0, 0], dataset="b", split="validation", head="tangent", mix="core")
    summary = run(arms)
    row = next(r for r in summary["rows"] if (r["dataset"], r["arm"]) == ("all", "ngd"))
    assert (row["n"], row["accuracy"], row["gain"], row["split"]) == (6, 75, 12.5, "test+validation")
    assert "head" not in row["setting"], "only what all data sets share"
    assert row["setting"]["mix"] == "core"
    assert sentences(summary)[0].startswith("base: 62.5 % as the mean over data sets")


def test_calibration_stands_in_the_rows():
    base_, ngd = run(base([1, 1, 0, 0]) + answers("ngd", [1, 1, 1, 1]))["rows"]
    assert ngd["calibration_error"] == pytest.approx(25)
    assert ngd["nll_difference"] == pytest.approx(-math.log(3) / 2)
    assert ngd["nll_ci_low"] < ngd["nll_difference"] < ngd["nll_ci_high"] <= 0
    assert (base_["nll_difference"], base_["nll_ci_low"], base_["nll_ci_high"]) == (0, 0, 0)


def test_what_was_measured_stands_in_the_rows():
    measured = {"moved": 0.25, "neighbours_used": 3, "once": 40.0, "labels": 300, "parameters": 7}
    records = [r | measured for r in answers("ngd", [1, 0])]
    records[1] |= {"moved": 0.75}
    base_, ngd = run(base([1, 0]) + records)["rows"]
    assert [ngd[k] for k in ("moved", "neighbours_used", "labels", "parameters")] == [0.5, 3, 300, 7]
    assert ngd["cost"]["once"] == 40
    assert base_["moved"] is None, "records do not say"


def test_how_it_was_made():
    summary = summarize(base([1, 0]), config={"limit": 2}, seed=7, inputs={"model": "abc", "versions": {"torch": "1"}})
    assert (summary["seed"], summary["config"], summary["hashes"]["model"]) == (7, {"limit": 2}, "abc")
    assert set(summary["hashes"]) == {"config", "records", "rules", "model"}
    assert summary["versions"] == {"torch": "1"}, "those of the run, not of whoever sums it up"
    now = summarize(base([1, 0]), config={}, seed=7)["versions"]
    assert {*now} - {"kernels"} == {"python", "torch", "transformers", "captum", "c3po_adaptive"}


def test_the_hash_of_the_records_does_not_tell_how_fast_they_were_made():
    hashes = [
        summarize([r | {"seconds": seconds} for r in base([1, 0])], config={}, seed=0)["hashes"]["records"]
        for seconds in (1.0, 2.0)
    ]
    assert hashes[0] == hashes[1]


def test_summary_is_reproducible():
    arms = base([1, 1, 0, 0] * 20) + answers("ngd", [1, 0, 1, 0] * 20)
    assert run(arms) == run(arms)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "none"),
        (answers("ngd", [1, 0]), "'base' on 'demo'"),
        (base([1, 0]) + answers("ngd", [1, 0], split="validation"), "'test' and 'validation'"),
        (base([1, 0, 1]) + answers("ngd", [1, 0]), "1 ids"),
    ],
)
def test_what_cannot_be_summed_up(records, said):
    with pytest.raises(DataError, match=said):
        run(records)


@pytest.mark.parametrize(
    ("difference", "low", "high", "p", "claim"),
    [
        (2, 0.5, 4, 0.01, 1),
        (2, 0.5, 4, 0.05, 0),
        (2, 0.0, 4, 0.01, 0),
        (-2, -4, -0.5, 0.01, -1),
        (-2, -4, -0.5, 0.2, 0),
        (-2, -4, 0.0, 0.01, 0),
    ],
)
def test_a_claim_needs_interval_and_test(difference, low, high, p, claim):
    assert comparison("a", "b", difference, low, high, p).claimed == claim


@pytest.mark.parametrize(
    ("gain", "control", "p_holm", "said"),
    [
        ((1.2, -0.8, 3.1, 0.3), (0.0, -1.5, 1.5, 1.0), None,
         ["ngd: 51.2 %, +1.2 points over base [-0.8, 3.1]: no evidence (the interval holds zero; a gain of 4.0 points "
          "would have been found after Holm's correction, with power 0.8); its control, random neighbours, reaches "
          "the same (+0.0 points [-1.5, 1.5])."]),
        ((6.0, 3.0, 9.0, 0.001), (5.0, 2.0, 8.0, 0.01), None,
         ["[3.0, 9.0]: helps beyond its controls (better than each of 1, of which the nearest is ",
          "; its neighbours matter"]),
        ((6.0, 3.0, 9.0, 0.001), (1.0, -2.0, 4.0, 0.6), None,
         [f": no evidence (it gains, but is not told from {CONTROL} (+1.0 [-2.0, 4.0])",
          "; it cannot be told from its control"]),
        ((-6.0, -9.0, -3.0, 0.001), (-5.0, -8.0, -2.0, 0.01), None,
         [": harms (-6.0 [-9.0, -3.0] after Holm's correction); its neighbours mislead"]),
        ((6.0, 0.1, 9.0, 0.04), None, 0.2, ["no evidence (not after Holm's correction, p = 0.2)"]),
    ],
)  # fmt: skip
def test_what_is_said_of_a_gain_and_of_neighbours(gain, control, p_holm, said):
    line = sentences(made_up(gain, control, p_holm))[1]
    assert all(part in line for part in said)


def test_no_gain_is_said_to_be_detectable_that_the_base_does_not_leave():
    for base_accuracy, said in ((96.0, "a gain of 4.0 points would have been found"), (96.1, "so few questions show")):
        assert said in sentences(made_up((1.2, -0.8, 3.1, 0.3), base_accuracy=base_accuracy))[1]


def test_own_controls_are_told_in_words():
    """Each that is paired with the arm, whatever it varies, but those that have a sentence of their own."""
    arms = base([1, 0, 0, 0] * 10) + answers("ngd", [1, 1, 1, 1] * 10)
    arms += answers("layers", [1, 0, 1, 0] * 10, varies=["random layers"], control_of=["ngd"])
    arms += answers("far", [1, 1, 0, 0] * 10, varies=[RANDOM_NEIGHBOURS], control_of=["ngd"])
    arms += answers("core", [1, 1, 1, 0] * 10, optimizer="none", changes="core")
    arms += answers("labels", [1, 1, 1, 1] * 10, varies=["labels drawn at random"], control_of=["ngd"])
    summary = summarize(arms, config={"limit": 40}, seed=0, compare=[("ngd", "labels")])
    ngd = next(line for line in sentences(summary) if line.startswith("ngd:"))
    assert "it beats its control, random neighbours (+50.0" in ngd
    told = re.search(r"; beside its other controls: (.*)\.$", ngd)[1]
    assert re.findall(r"(\w+) \+([\d.]+) \[[^]]*\] \(([^)]*)\)", told) == [
        ("layers", "50.0", "better"),
        ("core", "25.0", "better"),
    ]


@pytest.mark.parametrize(("labels", "said"), [(3, True), (9, True), (10, False), (None, False)])
def test_hardly_any_references_are_told(labels, said):
    ngd = answers("ngd", [1, 1], retriever={"name": "faiss-knn", "k": 3})
    told = sentences(run(base([1, 0]) + [r | {"labels": labels} for r in ngd]))
    wanted = (
        f"Few references: {labels}. Neighbours are most of them, near or not, and what is learned rests on so many;"
    )
    assert [line for line in told if line.startswith("Few references:")] == [f"{wanted} give more."] * said


def test_a_control_of_each_other_is_told_by_its_pair():
    arms = base([1, 0, 0, 0] * 5) + answers("one", [1, 1, 0, 0] * 5, changes="same")
    arms += answers("other", [1, 1, 1, 1] * 5, optimizer="amortized-ngd", control_of=["one"], changes="same")
    arms = [r | {"setting": r["setting"] | {"control_of": ["other"]}} if r["arm"] == "one" else r for r in arms]
    said = {line.split(":")[0]: line for line in sentences(run(arms))}
    assert "beside its controls: other -50.0 [" in said["one"]
    assert "beside its controls: one +50.0 [" in said["other"]


def test_a_worse_likelihood_is_said():
    """Where its interval holds no zero, of an arm, and of two arms beside each other."""
    surer = [r | {"scores": [s * 3 for s in r["scores"]]} for r in answers("surer", [1, 0] * 20)]
    worse = [r | {"scores": [s / 3 for s in r["scores"]]} for r in answers("less", [1, 1] * 20)]
    summary = summarize(
        base([1, 1] * 20) + surer + worse, config={}, seed=0, compare=[("surer", "base"), ("surer", "less")]
    )
    said = sentences(summary)
    row = next(r for r in summary["rows"] if r["arm"] == "surer")
    told = f"({row['nll_difference']:+.3f} [{row['nll_ci_low']:.3f}, {row['nll_ci_high']:.3f}])"
    assert row["nll_ci_low"] > 0
    assert f"; its NLL is worse {told}" in next(line for line in said if line.startswith("surer:"))
    pair = next(c for c in summary["comparisons"] if (c["a"], c["b"]) == ("surer", "less"))
    assert pair["nll_difference"] == pytest.approx(
        row["nll"] - next(r["nll"] for r in summary["rows"] if r["arm"] == "less")
    )
    assert pair["nll_ci_low"] < pair["nll_difference"] < pair["nll_ci_high"]
    assert "of its cost: worse; its NLL is worse (+" in next(
        line for line in said if line.startswith("surer beside less")
    )
    same = sentences(run(base([1, 1] * 20) + answers("same", [1, 1] * 20)))
    assert not any("NLL" in line for line in same)


def test_a_comparison_turned_round_turns_its_likelihood():
    one = comparison("a", "b", 1, 0, 2, 0.5).model_copy(
        update={"nll_difference": 0.1, "nll_ci_low": -0.1, "nll_ci_high": 0.3}
    )
    turned = one.mirrored
    assert (turned.nll_difference, turned.nll_ci_low, turned.nll_ci_high) == (-0.1, -0.3, 0.1)
    assert turned.mirrored == one
    assert comparison("a", "b", 1, 0, 2, 0.5).mirrored.nll_difference is None


def test_arms_of_one_verdict_and_reason_share_a_line_but_for_one_that_is_asked_for():
    summary = run(base([1, 1]) + [r for name in ("one", "other", "third") for r in answers(name, [1, 1])])
    head = "{}: 100.0 %, +0.0 points over base [-84.2, 84.2]".format
    reason = f": no evidence ({summary['rows'][1]['because']})."
    assert sentences(summary)[1] == "; ".join(map(head, ("one", "other", "third"))) + reason
    found = report.sentences(Summary.model_validate(summary), alone="other")
    assert found[1:3] == ["; ".join(map(head, ("one", "third"))) + reason, head("other") + reason]


def test_arms_that_lack_the_same_control_are_told_of_once():
    told = lacking_in_words({"a": ["random layers"], "b": [], "c": ["random layers"], "d": ["random neighbours"]})
    assert [line.partition(" no control")[0] for line in told] == ["Lacking: a and c have", "Lacking: d has"]


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ({"name": "ngd", "lr": 0.02, "steps": 4, "step": "sgd"}, "steps of ngd (4 by sgd from a rate of 0.02)"),
        ({"name": "integrated-step", "lr": 50.0, "floor": 0.001}, "step of integrated-step (at a rate of 50)"),
        ({"name": "integrated-step", "lr": None}, "step of integrated-step (at a rate that references choose)"),
        ({"name": "a-plugin's", "lr": 0.1, "steps": 3}, "steps of a-plugin's (3 from a rate of 0.1)"),
        ({"name": "a-plugin's", "lr": "slow", "steps": 3}, "steps of a-plugin's (3 from a rate of slow)"),
    ],
)
def test_a_bound_tells_whose_steps_it_took(of, said):
    row = row_of("bound", 60.0, role="oracle", setting={"optimizer": {"name": "oracle", "of": of}})
    gain = comparison("bound", "base", 10.0, 5.0, 15.0, 0.001)
    kept = made_up((1.0, -1.0, 3.0, 0.3))
    told = sentences(kept | {"rows": [*kept["rows"], plain(row)], "comparisons": [*kept["comparisons"], plain(gain)]})
    assert told[2].endswith(f"uses the labels, by the {said}, not a method.")


def test_oracle_is_an_upper_bound():
    lines = sentences(made_up((20.0, 15.0, 25.0, 0.001), needs_label=True, role="oracle"))
    assert lines[1].endswith("an upper bound that uses the labels, not a method.")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("near", "varies", "said"),
    [
        (True, None, ["No control was run"]),
        (False, None, ["No control was run"]),
        (True, "random layers", ["No control with random neighbours was run"]),
        (False, "random layers", []),
        (True, RANDOM_NEIGHBOURS, []),
    ],
)
def test_a_missing_control_is_said(near, varies, said):
    """That with random neighbours, where an arm looks at any."""
    setting = {"retriever": {"name": "faiss-knn"}} if near else {}
    kept = made_up((1.0, -1.0, 3.0, 0.5), varies and (1.0, -1.0, 3.0, 0.5), setting=setting)
    for row in kept["rows"][2:]:
        row["setting"]["varies"] = [varies]
    assert [line.partition(":")[0] for line in sentences(kept) if line.startswith("No control")] == said


def test_agreement_with_a_standard():
    own, new = {"1": 0.5, "2": 0.5}, {"1": 0.6, "2": 0.4}
    pathway = {"pathway": {"5": {"own": own, "new": new}}}
    arms = [{**r, **pathway} for r in [*answers("ngd", [1, 0]), *answers("fast", [1, 1])]]
    records = [*({**r, "pathway": {}} for r in base([1, 1])), *arms]
    (row,) = summarize(records, config={}, seed=0, standard="ngd")["agreement"]
    assert (row["arm"], row["standard"], row["n"], row["same_answers"]) == ("fast", "ngd", 2, 50.0)
    assert row["cosine"] == pytest.approx(1)
    assert summarize(records, config={}, seed=0)["agreement"] == []
    with pytest.raises(DataError, match="records of the arm 'slow'"):
        summarize(records, config={}, seed=0, standard="slow")


class TestHeadline:
    def summary(self):
        arms = [*base([1, 0, 0, 1] * 10), *answers("fixed", [1, 0, 0, 1] * 10)]
        arms += answers("adaptive", [1, 1, 1, 1] * 10, cost=3.0)
        pairs = [("adaptive", "fixed"), ("fixed", "base"), ("adaptive", "base")]
        return summarize(arms, config={}, seed=0, headline="adaptive", compare=pairs)

    def test_its_rows_and_comparisons_say_so(self):
        summary = self.summary()
        assert [r["arm"] for r in summary["rows"] if r["headline"]] == ["adaptive"]
        assert [(c["a"], c["b"]) for c in summary["comparisons"]] == [
            ("fixed", "base"), ("adaptive", "base"), ("adaptive", "fixed")
        ]  # fmt: skip
        assert [c["headline"] for c in summary["comparisons"]] == [False, True, True]

    def test_pairs_are_compared_and_said(self):
        summary = self.summary()
        pair = summary["comparisons"][-1]
        assert pair["difference"] == 50
        assert pair["cost_ratio"] == 0.5
        assert pair["p_holm"] >= pair["p"]
        assert sentences(summary)[-3].startswith("fixed beside base: +0.0 points")
        assert "adaptive beside fixed: +50.0 points" in sentences(summary)[-1]
        ending = r" at 50 % of its cost: better; its NLL is better \(-0\.549 \[-[\d.]+, -[\d.]+\]\)\.$"
        assert re.search(ending, sentences(summary)[-1])

    def test_a_pair_is_compared_once(self):
        arms = [*base([1, 0, 0, 1] * 10), *answers("a", [1, 1, 1, 1] * 10), *answers("b", [1, 0, 0, 1] * 10)]
        plain = summarize(arms, config={}, seed=0, compare=[("a", "b")])["comparisons"]
        again = summarize(arms, config={}, seed=0, compare=[("a", "b"), ("b", "a"), ("base", "a"), ("a", "base")])
        assert again["comparisons"] == plain, "a pair more would weigh on Holm's correction"


class TestRisk:
    def test_by_hand(self):
        rows = answers("a", [1, 0, 1, 1, 0] * 2)
        for i, row in enumerate(rows):
            row |= {"strength": -float(i), "base_choice": 1 - i % 2}
        got = risk_by_coverage("demo", rows, seed=0)
        assert [r["coverage"] for r in got] == [k / 10 for k in range(1, 11)]
        before = [i % 2 for i in range(10)]
        after = [1, 0, 1, 1, 0] * 2
        gain = [a - b for a, b in zip(after, before, strict=True)]
        assert [r["gain"] for r in got] == pytest.approx([10 * sum(gain[:k]) for k in range(1, 11)])
        assert [r["harm"] for r in got] == pytest.approx([10 * sum(g < 0 for g in gain[:k]) for k in range(1, 11)])

    def test_of_several_data_sets_is_their_mean_and_few_flips_are_uncertain(self):
        one, two = answers("a", [1] * 4, dataset="one"), answers("a", [0, 1] * 10, dataset="two")
        for row in [*one, *two]:
            row |= {"strength": 1.0, "base_choice": 1 if row["dataset"] == "one" else row["choice"]}
        whole = risk_by_coverage("all", [*one, *two], seed=0)[-1]
        assert whole["gain"] == pytest.approx((100 + 0) / 2)
        still = risk_by_coverage("two", two, seed=0)[-1]
        assert still["ci_low"] < 0 < still["ci_high"], "no flip among twenty questions proves little"

    def test_only_of_arms_that_weigh(self):
        assert risk_by_coverage("demo", answers("a", [1, 0]), seed=0) == []
        assert run([*base([1, 0, 1, 1]), *answers("ngd", [1, 0, 1, 1])])["risk"] == []


class TestPredicted:
    """Planted: the signal is what happens to the lead, its opposite, or nothing to do with it."""

    def planted(self, signal, dataset="demo", shift=0.0):
        before, after = base([1, 0] * 20, dataset=dataset), answers("a", [1, 0] * 20, dataset=dataset)
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            change = 0.01 * (i - 20) + shift
            new["scores"] = [s + change * (k == old["answer"]) for k, s in enumerate(old["scores"])]
            new["strength"] = signal(i, change)
        return predicted_benefit("all", after, before, seed=0), after, before

    def test_a_signal_that_says_it(self):
        (row,), *_ = self.planted(lambda i, change: change)
        assert row["rank_correlation"] == pytest.approx(1)
        assert row["within"] == pytest.approx(1)
        assert [b["n"] for b in row["bins"]] == [8] * 5
        count = 2  # choices: what is added to the right one moves the mean by its share
        wanted = [0.01 * (8 * k + 3.5 - 20) * (count - 1) / count for k in range(5)]
        assert [b["realised"] for b in row["bins"]] == pytest.approx(wanted)
        assert all(b["ci_low"] < b["realised"] < b["ci_high"] for b in row["bins"])

    def test_one_that_says_the_opposite_and_one_that_says_nothing(self):
        assert self.planted(lambda i, change: -change)[0][0]["rank_correlation"] == pytest.approx(-1)
        row = self.planted(lambda i, change: (7 * i) % 40)[0][0]
        assert row["rank_correlation_low"] < 0 < row["rank_correlation_high"]

    def test_telling_data_sets_apart_is_nothing_within_them(self):
        _, one, before = self.planted(lambda i, change: 0.0 + (7 * i) % 40 / 1000, "one")
        _, two, earlier = self.planted(lambda i, change: 1.0 + (7 * i) % 40 / 1000, "two", shift=1.0)
        (row,) = predicted_benefit("all", [*one, *two], [*before, *earlier], seed=0)
        assert row["rank_correlation_low"] > 0.5
        assert row["within_low"] < 0 < row["within_high"]

    def test_how_many_are_re_mixed_in_a_data_set_is_nothing_within_them(self):
        """Where most are left alone, and the others win or lose by chance: more of them here than there."""
        after, before = [], []
        for name, every in (("one", 4), ("two", 20)):
            _, one, earlier = self.planted(lambda i, change, every=every: float(i % every == 0), name)
            for i, record in enumerate(one):
                lead = 0.1 * (-1) ** (i // every) if i % every == 0 else 0.0
                was = earlier[i]["scores"]
                record["scores"] = [s + lead * (k == record["answer"]) for k, s in enumerate(was)]
            after, before = after + one, before + earlier
        (row,) = predicted_benefit("all", after, before, seed=0)
        assert abs(row["within"]) < 0.1
        assert abs(row["rank_correlation"]) < 0.1

    def test_of_few_that_are_re_mixed_the_interval_is_as_wide_as_for_so_few(self):
        """All others have one rank on both sides, and say nothing: of 30 of 400 the interval is over 30."""
        rng = np.random.default_rng(0)
        before, after = base([1, 0] * 200), answers("a", [1, 0] * 200)
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            acts = i < 30
            new["strength"] = float(acts * (1 + rng.random()))
            new["scores"] = [s + acts * rng.normal() * (k == old["answer"]) for k, s in enumerate(old["scores"])]
        (row,) = predicted_benefit("all", after, before, seed=0)
        assert row["n_acted"] == 30
        for name in ("rank_correlation", "acted"):
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
            assert row[f"{name}_high"] - row[f"{name}_low"] > 0.5, "Fisher's z of 400 would be 0.2 wide"

    def test_only_of_arms_that_weigh(self):
        assert self.planted(lambda i, change: None)[0] == []
        assert self.planted(lambda i, change: 1.0)[0] == [], "the same for all orders nothing"
        assert run([*base([1, 0, 1, 1]), *answers("ngd", [1, 0, 1, 1])])["predicted"] == []
