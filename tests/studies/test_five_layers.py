"""Five layers: each way to take them is tuned alike, and asked beside the same five for all."""

import json
from functools import cache
from pathlib import Path
from statistics import mean

import pytest
import yaml
from c3po_compare.compared import read_protocol
from c3po_compare.records import ComparedSummary
from five_layers import choose
from merged import choose as merged_choose
from merged.choose import APART, CONTROLS, tries
from records.made import answered
from statsmodels.stats.multitest import multipletests

from c3po_adaptive.records.parquet import read_parquet

MODELS = ("merged", "misrouted")
FOLDER = Path(__file__).parents[2] / "studies" / "five_layers"
CONFIG = yaml.safe_load((FOLDER / "tries.yaml").read_text(encoding="utf-8"))
SOME = {name: [16, 17, 18, 19, 20] for name in choose.PER_QUESTION}


def found(**right):
    """What came of tries of which so many of ten questions are right; one is, where nothing is said."""
    counts = {name: right.get(name, 1) for name in CONFIG["arms"]}
    answers = [
        answered(arm=name, id=f"{n}", correct=n < count, scores=(1.0, 0.0))
        for name, count in counts.items()
        for n in range(10)
    ]
    return tries(answers, CONFIG["arms"])


def test_each_way_has_as_many_tries():
    tried = {}
    for name, arm in CONFIG["arms"].items():
        tried.setdefault(name.partition(APART)[0], []).append(arm)
    assert len(tried.pop("base")) == 1
    assert {*map(len, tried.values())} == {3}
    assert all(of.count(one) == 1 for of in tried.values() for one in of)
    assert {*choose.PER_QUESTION, *choose.FIXED} < tried.keys()


def test_what_is_compared_is_what_is_asked():
    asked = choose.asked_next(CONFIG, found(), SOME, "questions.jsonl")
    assert read_protocol(FOLDER / "protocol.yaml").names()["arm"] == asked["arms"].keys()
    assert asked["datasets"][0]["questions"] == "questions.jsonl" and asked["datasets"][0]["limit"] is None
    for name in choose.CONTROLLED:
        for control, other in CONTROLS.items():
            made = asked["arms"][control.replace("each", name)]
            assert made == {**asked["arms"][name], **other, "control_of": [name]}


def test_the_best_fixed_five_are_those_of_the_best_try():
    arms = choose.asked_next(CONFIG, found(**{"spread five / 200": 5, "last five / 800": 4}), SOME, "q.jsonl")["arms"]
    assert arms[choose.BEST_FIXED] == arms["spread five"] == CONFIG["arms"]["spread five / 200"]
    always = arms["five chosen, the same for all"]
    assert always == {
        **arms["five chosen"],
        "selector": {"name": "fixed", "layers": SOME["five chosen"], "experts": None},
    }


def test_the_same_for_all_are_the_layers_that_the_best_try_took_most_often():
    layers = {"q": (16, 17, 20, 21, 27), "r": (16, 18, 20, 21, 26), "s": (16, 17, 20, 22, 25)}
    answers = [
        answered(arm=f"{name} / {setting}", id=key, layers=own if setting == "200" else (27,))
        for name in choose.PER_QUESTION
        for setting in ("50", "200")
        for key, own in layers.items()
    ]
    best = found(**{f"{name} / 200": 5 for name in choose.PER_QUESTION})
    assert choose.most_often(answers, best) == {name: [16, 17, 18, 20, 21] for name in choose.PER_QUESTION}


@pytest.mark.parametrize("kept", sorted((FOLDER / "results" / "tries").glob("*.json")), ids=lambda kept: kept.stem)
def test_tries_are_told_as_they_were_answered(kept):
    found = json.loads(kept.read_text(encoding="utf-8"))
    answers = read_parquet(kept.with_suffix(".parquet"))
    right = {arm: 100 * mean(r.correct for r in answers if r.arm == arm) for arm in CONFIG["arms"]}
    told = {
        f"{way}{APART}{one['setting']}" if one["setting"] else way: one["accuracy"]
        for way, of in found.items()
        for one in of
    }
    assert told == pytest.approx(right) and {one["questions"] for of in found.values() for one in of} == {210}


@pytest.mark.parametrize("way", MODELS)
def test_as_chosen_they_were_asked(way):
    best = json.loads((FOLDER / "results" / "tries" / f"smollm2-moe-{way}.json").read_text(encoding="utf-8"))
    asked = {r.arm: r.setting for r in kept(way)}
    for name, of in best.items():
        if setting := merged_choose.best(of)["setting"]:
            assert asked[name].loss == ("lead" if "lead" in setting else "choices")
            assert asked[name].optimizer.lr == float(setting.split()[-1])


@cache
def kept(way):
    """A model's answers."""
    return read_parquet(FOLDER / "results" / f"smollm2-moe-{way}.parquet")


def answers_of(way, arm):
    return [r for r in kept(way) if r.arm == arm]


def words():
    return " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())


def test_what_the_page_says_of_layers_is_what_was_taken():
    agreed = [answers_of(way, "five agreed") for way in MODELS]
    fewer, none = ([100 * mean(len(r.layers) < least for r in own) for own in agreed] for least in (5, 1))
    said = "fewer than five for {:.0f} % of questions (on the other model {:.0f} %), and none for {:.0f} % ({:.0f} %)"
    assert said.format(*fewer, *none) in words()
    chosen = ("five chosen", "five attributed", "five by margin")
    taken = [100 * mean(x < 22 for r in answers_of(way, arm) for x in r.layers) for way in MODELS for arm in chosen]
    assert f"for {min(taken):.0f} to {max(taken):.0f} % of what they take" in words()
    assert max(mean(x < 22 for r in own for x in r.layers) for own in agreed[:1]) < 0.5
    for way in MODELS:
        always = answers_of(way, "five chosen, the same for all")[0].layers
        assert round(mean(len({*r.layers} & {*always}) for r in answers_of(way, "five chosen"))) == 4


def test_what_the_page_says_of_costs_and_of_corrected_p_is_what_was_found():
    costs = [mean(r.cost.total for r in answers_of("merged", arm)) for arm in ("five by margin", "five chosen")]
    assert round(costs[0] / costs[1]) == 6
    found = ComparedSummary.model_validate_json((FOLDER / "results" / "summary.json").read_bytes())
    primary = {(c.on, c.a): c.p for c in found.comparisons if c.primary}
    _, corrected, _, _ = multipletests([*primary.values()], method="holm")
    told = dict(zip(primary, corrected, strict=True))
    said = "the first stands (p {:.3f}), the second does not ({:.3f})"
    assert said.format(*(told[way, "five chosen"] for way in MODELS)) in words()
    assert told["merged", "five attributed"] < 0.05
    worse = {(c.on, c.a) for c in found.second if c.b == "each" and c.verdict == "worse"}
    assert worse == {("misrouted", "five chosen"), *((way, "five attributed") for way in MODELS)}


def test_the_last_five_are_the_least_of_all_ways():
    found = ComparedSummary.model_validate_json((FOLDER / "results" / "summary.json").read_bytes())
    for way in MODELS:
        right = {row.arm: row.accuracy for row in found.rows if row.on == way and ", " not in row.arm}
        assert sorted(right, key=right.__getitem__)[:2] == ["base", "last five"]
