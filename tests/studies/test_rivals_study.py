"""Rivals: each has as many tries, is asked as chosen beside its controls, and is told as it was tested."""

import json
from functools import cache
from pathlib import Path
from statistics import mean

import pytest
import yaml
from c3po_compare.compared import read_protocol
from c3po_rivals.knn_moe import KNNMoE
from merged import choose as merged_choose
from merged.choose import APART, BASE
from merged.fresh import QUESTIONS, balanced_of, kinds_of
from rivals import choose
from study.configs import load_config

from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.tasks import questions

pytestmark = pytest.mark.usefixtures("undrawn")

FOLDER = Path(__file__).parents[2] / "studies" / "rivals"
RESULTS = FOLDER / "results"
TRIED = RESULTS / "tries" / "smollm2-moe-merged.json"
CONFIG = yaml.safe_load((FOLDER / "merged.yaml").read_text(encoding="utf-8"))
POOL = FOLDER.parents[2] / "shared" / "pool"
RESULTS_PAGE = FOLDER.parents[1] / "docs" / "explanation" / "results.md"
TRIES = 4


def test_rivals_have_as_many_tries_on_the_questions_of_other_arms():
    assert CONFIG["datasets"] == yaml.safe_load((FOLDER.parent / "merged" / "arms.yaml").read_text())["datasets"]
    tried = {}
    for name, arm in CONFIG["arms"].items():
        tried.setdefault(name.partition(APART)[0], []).append(arm)
    assert len(tried.pop(BASE)) == 1
    assert {rival: len(of) for rival, of in tried.items()} == dict.fromkeys(tried, TRIES)
    assert all(of.count(one) == 1 for of in tried.values() for one in of)


def test_rivals_are_asked_next_beside_their_controls():
    chosen = dict(name.split(APART) for name in CONFIG["arms"] if APART in name) | {BASE: ""}
    arms = choose.asked_next(CONFIG, chosen, "balanced.jsonl")["arms"]
    assert {"roma", "roma, published", "epo, published", "each, random alike", "nearest"} < arms.keys()
    for rival, controls in choose.CONTROLS.items():
        for what in controls:
            control = arms[f"{rival}, {what}"]
            assert control.pop("control_of") == [rival]
            assert {key for key in control if control[key] != arms[rival].get(key)} <= {"labels", "retriever"}
    assert arms["knn-moe, random neighbours"]["retriever"] == {"name": "random", "k": 30}, "as many as a layer looks up"
    assert arms["r2t2, random neighbours"]["retriever"]["k"] == arms["r2t2"]["retriever"]["k"] == 5
    few = choose.asked_next(CONFIG, {**chosen, "knn-moe": "3"}, "balanced.jsonl")["arms"]
    assert few["knn-moe, random neighbours"]["retriever"]["k"] == KNNMoE().k == 3
    assert read_protocol(FOLDER / "protocol.yaml").names()["arm"] == arms.keys()


def test_tries_are_told_as_they_were_answered():
    answers = read_parquet(TRIED.with_suffix(".parquet"))
    right = {arm: 100 * mean(r.correct for r in answers if r.arm == arm) for arm in CONFIG["arms"]}
    found = tries()
    told = {
        f"{rival}{APART}{one['setting']}" if one["setting"] else rival: one["accuracy"]
        for rival, of in found.items()
        for one in of
    }
    assert told == pytest.approx(right) and {one["questions"] for of in found.values() for one in of} == {105}


def test_as_chosen_they_were_asked(tmp_path):
    again = choose.asked_next(CONFIG, merged_choose.settings(tries()), "runs/rivals/balanced.jsonl")
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(again), encoding="utf-8")
    asked = load_config(RESULTS / "test.yaml")
    assert asked == load_config(tmp_path / "test.yaml") and {r.arm for r in kept()} == asked.arms.keys()


def test_no_question_of_the_test_took_part_in_a_choice():
    asked, tried = ({r.id for r in of} for of in (kept(), read_parquet(TRIED.with_suffix(".parquet"))))
    assert len(asked) == QUESTIONS and len(tried) == QUESTIONS // 2
    assert not asked & tried


@pytest.mark.skipif(not POOL.is_dir(), reason=f"the bed's files, beside the project, are not at {POOL}")
def test_questions_of_the_test_are_the_balanced_ones_and_no_references():
    asked, learned = set(), set()
    for kind in (kinds := kinds_of("hidden_avg-8-0")):
        asked |= {q.id for q in balanced_of(kind, POOL, QUESTIONS // len(kinds))}
        learned |= {q.id for q in questions(POOL / f"{kind}.references.jsonl", limit=40)}
    assert {r.id for r in kept()} == asked and len(learned) == 40 * len(kinds)
    assert not asked & learned


def test_the_table_of_the_page_is_made_of_the_kept_answers():
    right = {arm: 100 * mean(r.correct for r in answers_of(arm)) for arm in RIVALS}
    base = {r.id: r.choice for r in answers_of(BASE)}
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for arm in RIVALS:
        chosen, gain = merged_choose.best(tries()[arm]), points(compared(arm, BASE))
        lead = "–" if arm == "each" else points(compared("each", arm))
        changed = sum(r.choice != base[r.id] for r in answers_of(arm))
        passes = mean(r.cost.total for r in answers_of(arm))
        row = [
            f"`{arm}`",
            chosen["setting"],
            f"{chosen['accuracy']:.1f}",
            f"{right[arm]:.1f}",
            gain,
            lead,
            f"{changed}",
        ]
        assert f"| {' | '.join(row)} | {passes:.1f} |" in page


def test_each_claim_of_the_page_is_the_verdict():
    gains = {arm: compared(arm, BASE)["verdict"] for arm in RIVALS}
    assert gains == dict.fromkeys(RIVALS, "not shown") | {"each": "better"}
    leads = {arm: compared("each", arm)["verdict"] for arm in RIVALS if arm != "each"}
    assert leads == dict.fromkeys(leads, "better") | {"roma": "not shown"}
    published = sorted((c["difference"], points(c)) for c in comparisons() if c["a"].endswith(", published"))
    controls = [c for c in comparisons() if c["b"].startswith(f"{c['a']}, ")]
    assert {c["a"] for c in controls if c["verdict"] == "better"} == {"each"} and len(controls) == 11
    page = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    found = [compared(arm, BASE)["detectable"] for arm in RIVALS if arm != "each"]
    assert f"gains of {min(found):.0f} to {max(found):.0f} points, by rival, would be found with power 0.8" in page
    assert len(published) == 6 and f"gains anything, from {published[0][1]} to {published[-1][1]}" in page
    random = 100 * mean(r.correct for r in answers_of("roma, random neighbours"))
    assert f"these answer {random:.1f} % right" in page
    before = json.loads((FOLDER.parent / "merged/results/second/compared/summary.json").read_text())["comparisons"]
    (alone,) = (c for c in before if (c["on"], c["a"], c["b"]) == ("gated: hidden_avg-8-0", "each", BASE))
    assert f"alone is not shown (p {alone['p_holm']:.2f})" in page and alone["verdict"] == "not shown"
    unmoved = {f"r2t2{APART}{one['setting']}" for one in tries()["r2t2"]}
    answers = read_parquet(TRIED.with_suffix(".parquet"))
    base = {r.id: r.choice for r in answers if r.arm == BASE}
    assert all(r.choice == base[r.id] for r in answers if r.arm in unmoved) and len(unmoved) == TRIES


def test_what_was_asked_of_other_arms_before_is_told():
    before = read_parquet(FOLDER.parent / "merged/results/second/hidden_avg-8-0.parquet")
    told = {(r.arm, r.id): r.choice for r in kept()}
    known = [r for r in before if r.arm in (BASE, "each", "nearest")]
    assert len(known) == 3 * QUESTIONS and all(told[r.arm, r.id] == r.choice for r in known)
    right = {
        arm: 100 * mean(r.correct for r in before if r.arm == arm) for arm in (BASE, "lora", "ngd", "router tuning")
    }
    lora, ngd, routers = (right[arm] - right[BASE] for arm in ("lora", "ngd", "router tuning"))
    said = f"LoRA +{lora:.1f} points, C3PO's descent, tuned, +{ngd:.1f}, routers trained for ten passes +{routers:.1f}"
    assert said in (FOLDER / "README.md").read_text(encoding="utf-8")
    page = RESULTS_PAGE.read_text(encoding="utf-8")
    assert f"LoRA from the same labels gains {lora:.1f} points there, looked at alone" in page
    second = json.loads((FOLDER.parent / "merged/results/second/compared/summary.json").read_text(encoding="utf-8"))
    sides = [c for c in second["comparisons"] if (c["on"], c["a"], c["b"]) == ("gated: hidden_avg-8-0", "each", "lora")]
    assert [c["verdict"] for c in sides] == ["not shown"] and "that it is above the step is not shown" in page


RIVALS = ("each", *sorted({arm.partition(APART)[0] for arm in CONFIG["arms"]} - {BASE, "each"}))


def comparisons():
    found = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))["comparisons"]
    return [c for c in found if c["test"] == "superiority"]


def compared(a, b):
    (one,) = (c for c in comparisons() if (c["a"], c["b"]) == (a, b))
    return one


def points(one):
    return f"{one['difference']:+.1f} [{one['ci_low']:.1f}, {one['ci_high']:.1f}]".replace("-", "−")


def answers_of(arm):
    return [r for r in kept() if r.arm == arm]


def tries():
    return json.loads(TRIED.read_text(encoding="utf-8"))


@cache
def kept():
    """Answers to test questions."""
    return read_parquet(RESULTS / "smollm2-moe-merged.parquet")
