"""Comparisons that were named beforehand: tested alone, whatever else is compared."""

from functools import cache

import pytest
from records.made import answered, sentences, summarize

from c3po_adaptive.analysis.power import detectable
from c3po_adaptive.records.summary import Summary


def answers(arm, right, dataset="demo", **setting):
    return [
        answered(arm=arm, dataset=dataset, id=f"{i}", subject=f"{i % 4}", correct=bool(one), setting=setting)
        for i, one in enumerate(right)
    ]


N = 200
AGAIN = {"score": "generated"}
BASE = answers("base", [0] * N, changes="nothing")
NEW = answers("new", [1] * 9 + [0] * (N - 9))
DRAWN = answers("drawn", [0] * N, control_of=["new"], varies=["labels drawn at random"])
OTHERS = [r for k in range(40) for r in answers(f"other {k}", [k % 2] + [0] * (N - 1))]
FIRST = (("new", "base", "question"),)
EVERYTHING = [*BASE, *NEW, *DRAWN, *OTHERS]


@cache
def told(**how):
    summary = summarize(EVERYTHING, config={}, seed=0, compare=[("new", "base"), ("new", "drawn")], **how)
    return {(c["a"], c["b"], c["unit"]): c for c in summary["comparisons"]}, summary


def test_the_others_share_holm_and_it_does_not():
    plain, _ = told()
    found, _ = told(primary=FIRST)
    before, after = plain["new", "base", "question"], found["new", "base", "question"]
    assert before["p_holm"] == pytest.approx(42 * before["p"])
    assert (after["primary"], after["p_holm"]) == (True, before["p"])
    assert before["p_holm"] > 0.05 > after["p_holm"]
    assert after["detectable"] == pytest.approx(100 * detectable(after["error"] / 100, N))
    assert before["detectable"] == pytest.approx(100 * detectable(after["error"] / 100, N, 42))
    gains = [c for key, c in found.items() if key[1] == "base" and key[0] != "new"]
    assert not any(c["primary"] for c in gains)
    assert gains[0]["detectable"] == pytest.approx(100 * detectable(gains[0]["error"] / 100, N, 41))


def test_the_verdict_is_by_it_alone():
    _, plain = told()
    _, gain = told(primary=FIRST)
    _, whole = told(primary=(*FIRST, ("drawn", "new", "question")))
    found = [next(r for r in s["rows"] if r["arm"] == "new") for s in (plain, gain, whole)]
    assert [row["verdict"] for row in found] == ["no evidence", *["helps beyond its controls"] * 2]
    assert found[0]["because"].startswith("not after Holm's correction")


def test_of_what_beats_controls_holm_is_over_those_that_are_not_primary():
    rivals = [*answers("rival", [1] * 9 + [0] * (N - 9)), *answers("chance", [0] * N, control_of=["rival"])]
    records = [*EVERYTHING, *rivals]
    pairs = [("new", "drawn")]
    plain, primary = (
        summarize(records, config={}, seed=0, compare=pairs, primary=named)
        for named in ((), [("new", "drawn", "question")])
    )
    p = [{r["arm"]: r["p_beyond"] for r in s["rows"] if r["p_beyond"] is not None} for s in (plain, primary)]
    assert p[0]["new"] == p[0]["rival"] == pytest.approx(2 * p[1]["new"])
    assert p[1]["rival"] == p[1]["new"], "each alone"


def test_of_several_data_sets_it_is_the_mean_over_them():
    records = [r.model_copy(update={"dataset": name}) for name in ("one", "two") for r in (*BASE, *NEW)]
    summary = summarize(records, config={}, seed=0, primary=FIRST)
    named = [(c["dataset"], c["a"], c["b"]) for c in summary["comparisons"] if c["primary"]]
    assert named == [("all", "new", "base")]


def test_what_is_generated_beside_its_likelihood_is_not_counted_twice():
    asked = [{"name": name, "questions": name[:1]} | more for name, more in (("a", {}), ("b", {}), ("a, again", AGAIN))]
    records = [r.model_copy(update={"dataset": one["name"]}) for one in asked for r in (*BASE, *NEW)]
    for there, expected in ((["a", "b", "a, again"], ("all", 2 * N)), (["a, again", "a"], ("a", N))):
        config = {"datasets": [one for name in there for one in asked if one["name"] == name]}
        own = sorted((r for r in records if r.dataset in there), key=lambda r: there.index(r.dataset))
        summary = summarize(own, config=config, seed=0, primary=FIRST)
        assert [(c["dataset"], c["n"]) for c in summary["comparisons"] if c["primary"]] == [expected]
        assert {c["dataset"] for c in summary["comparisons"]} == {*there, expected[0]}
        assert Summary.model_validate(summary).shown_dataset == expected[0]


def test_by_kind_it_is_another_comparison():
    found, summary = told(by_kind=(("new", "base"), ("base", "new")), primary=(("new", "base", "kind"),))
    assert found["new", "base", "kind"]["primary"]
    assert not found["new", "base", "question"]["primary"]
    assert ("base", "new", "kind") not in found
    row = next(r for r in summary["rows"] if r["arm"] == "new")
    assert row["gain"] == pytest.approx(found["new", "base", "question"]["difference"])
    said = next(line for line in sentences(summary) if "as the mean over 4 kinds" in line)
    assert f"Primary: tested alone, p = {found['new', 'base', 'kind']['p']:.2g}." in said


def test_sentences_say_which_it_is():
    found, summary = told(primary=FIRST)
    p = found["new", "base", "question"]["p"]
    lines = sentences(summary)
    (own,) = [line for line in lines if line.startswith("new: ")]
    assert f"(primary, tested alone: p = {p:.2g})" in own
    assert [line for line in lines if line.endswith(f"better. Primary: tested alone, p = {p:.2g}.")]
    assert sum("rimary" in line for line in lines) == 2
