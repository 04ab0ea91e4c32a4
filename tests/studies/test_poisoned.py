"""The study of wrong labels and hostile neighbours: what its page says follows from what is kept."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from c3po_compare import answers
from poisoned import suspects

from c3po_adaptive.types import Question

STUDY = Path(__file__).parents[2] / "studies" / "poisoned"
PAGE = (STUDY / "README.md").read_text(encoding="utf-8")
ROUNDS = {240: {"config": "early", "shares": "shares", "beside": "beside"}}
ROUNDS |= {600: {name: name for name in ("again", "controls", "paper", "colluding")}}
"""Of each, by how many references there are: what the answers of each configuration are kept as."""


def kept(name):
    return json.loads((STUDY / "results" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def kept_answers(*names):
    return answers(*(STUDY / "results" / f"{name}.parquet" for name in names))


@pytest.mark.parametrize(
    ("folder", "stand"),
    [
        (".", {("crafted 30", "capped")}),
        ("again", {("crafted 30", "capped"), ("early: crafted 30", "median of means"),
                   ("early: crafted 30", "consistent"), ("colluding: three crafted", "capped"),
                   ("colluding: three crafted", "median of means")}),
    ],
)  # fmt: skip
def test_what_stands_beside_nearest_is_what_the_page_says(folder, stand):
    found = [c for c in kept(f"{folder}/summary")["comparisons"] if c["b"] == "nearest"]
    assert {(c["on"], c["a"]) for c in found if c["verdict"] in ("better", "worse")} == stand
    doubted = [c for c in found if (c["on"], c["a"]) == ("early: duplicates 30", "median of means")]
    assert all(f"p = {c['p_holm']:.3f}" in PAGE for c in doubted)


def test_what_is_lost_differs_by_kind_as_told():
    table = kept_answers("again")
    right = table.pivot_table(index="kind", columns=["dataset", "arm"], values="correct")
    clean, crafted = (100 * (right[name, "nearest"] - right[name, "base"]) for name in ("clean", "crafted 30"))
    lost = clean - crafted
    assert f"from {lost.min():.0f} points (`{lost.idxmin()}`) to {lost.max():.0f} (`{lost.idxmax()}`)" in PAGE


@pytest.mark.parametrize("references", ROUNDS)
def test_what_was_asked_is_what_the_configurations_say(references):
    for config, name in ROUNDS[references].items():
        asked = yaml.safe_load((STUDY / f"{config}.yaml").read_text(encoding="utf-8"))
        table = kept_answers(name)
        assert {*table.arm} == {*asked["arms"]} and {*table.dataset} <= {d["name"] for d in asked["datasets"]}
        assert {d["references_limit"] for d in asked["datasets"]} == {references}


def test_no_question_of_the_second_round_was_asked_in_the_first():
    first, again = (kept_answers(*round_.values()) for round_ in ROUNDS.values())
    assert (first.question.nunique(), again.question.nunique()) == (72, 288)
    assert {*first.question}.isdisjoint(again.question)


def test_the_page_says_how_suspects_are_told():
    for row in kept("suspects"):
        assert f"| {row['share']:.0%} | {row['auc']:.2f} [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}] |" in PAGE


def test_suspects_of_plain_kinds_are_told():
    asked = [
        Question(f"{topic}{i}", f"{topic} {i}", ("yes", "no"), answer)
        for topic, answer in (("A kettle on the fire, hot as can be", 0), ("Snow lies in the hills of the north", 1))
        for i in range(20)
    ]
    found = suspects.told(asked, 0.3, {"model": [[0.0, -1.0]] * 20 + [[-1.0, 0.0]] * 10 + [[0.0, -1.0]] * 10})
    assert 0.6 < found["auc_of_scores"]["model"] < 0.9, "right on three quarters"
    assert found["references"] == 40 and found["auc"] > 0.9 and found["ci"][0] <= found["auc"] <= found["ci"][1]
    assert found["wrong_left"] < 0.1 < 0.8 < found["right_left"]
    flipped = np.array([[True, False, False]])
    assert suspects.area(flipped, np.array([[0.5, -1.0, 0.6]])) == 0.5
