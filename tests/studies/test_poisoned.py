"""The study of wrong labels and hostile neighbours: what is compared, drawn and told."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib import pyplot as plt
from poisoned import again, compare, pictures, suspects
from records.made import answered

from c3po_adaptive.records.parquet import read_parquet, write_parquet
from c3po_adaptive.types import Question

COST = {"prefill": 1.0, "total": 1.0}
STUDY = Path(__file__).parents[2] / "studies" / "poisoned"


def answers(dataset, right):
    """Of each arm to twenty questions, so many of them right."""
    return [
        answered(dataset=dataset, arm=arm, id=f"{n}", correct=n < count, subject="kind", cost=COST)
        for arm, count in right.items()
        for n in range(20)
    ]


@pytest.fixture
def folder(tmp_path):
    clean = answers("clean", {"base": 8, "nearest": 16, "capped": 15})
    crafted = answers("crafted 30", {"base": 8, "nearest": 9, "capped": 14})
    write_parquet([*clean, *crafted], tmp_path / "early.parquet")
    write_parquet(answers("clean", {"base": 8, "abstaining": 12}), tmp_path / "beside.parquet")
    write_parquet(answers("clean", {"base": 17, "nearest": 18}), tmp_path / "sound.parquet")
    return tmp_path


def test_runs_are_told_apart_and_the_base_counts_once(folder):
    of = compare.kept(folder)
    assert set(of) == {"clean", "crafted 30", "clean, sound"}
    assert {arm: len(own) for arm, own in compare.by_arm(of["clean"]).items()} == {
        "base": 20, "nearest": 20, "capped": 20, "abstaining": 20,
    }  # fmt: skip


def test_an_unfinished_run_tells_of_what_all_arms_answered(folder):
    some = answers("flipped 30", {"base": 8, "nearest": 9})[:-5]
    write_parquet(some, folder / "shares.parquet")
    assert {arm: len(own) for arm, own in compare.by_arm(compare.kept(folder)["flipped 30"]).items()} == {
        "base": 15, "nearest": 15,
    }  # fmt: skip


def test_defences_are_compared_with_what_they_defend_and_primary_ones_are_tested_alone(folder):
    found = compare.comparisons(compare.kept(folder))
    told = {(c.dataset, c.a, c.b): c for c in found}
    assert told["crafted 30", "capped", "nearest"].difference == pytest.approx(25)
    assert told["clean", "capped", "nearest"].difference == pytest.approx(-5)
    assert told["clean", "abstaining", "nearest"].difference == pytest.approx(-20)
    (primary,) = (c for c in found if c.primary)
    assert (primary.dataset, primary.a) == ("crafted 30", "capped") and primary.p_holm == primary.p


def test_the_table_has_a_row_for_each_data_set(folder):
    rows = compare.table(compare.comparisons(compare.kept(folder))).splitlines()
    assert rows[0] == "| data | nearest | capped | abstaining |"
    assert rows[3].startswith("| crafted 30 | +5.0 [") and rows[3].endswith("] |  |")


def test_the_page_and_the_summary_say_what_the_kept_answers_say():
    page = (STUDY / "README.md").read_text()
    for row in json.loads((compare.RESULTS / "suspects.json").read_text()):
        assert f"| {row['share']:.0%} | {row['auc']:.2f} [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}] |" in page
    answers = compare.kept()
    found, told = compare.comparisons(answers), json.loads((compare.RESULTS / "summary.json").read_text())
    assert told["rows"] == compare.rows(answers)
    for one, kept in zip(found, told["comparisons"], strict=True):
        assert kept == pytest.approx(json.loads(one.model_dump_json()))
    assert compare.table(found) in page
    of = {(c.dataset, c.a, c.b): c for c in found}
    saved = of["crafted 30", "capped", "nearest"]
    assert saved.primary and saved.p < 0.05 and f"+{saved.difference:.1f} [{saved.ci_low:.1f}, " in page
    assert [c.a for c in found if c.p_holm < 0.05] == ["capped"], "nothing else stands"


class TestAgain:
    @pytest.fixture
    def twice(self, tmp_path):
        clean = answers("clean", {"base": 8, "nearest": 16, "capped": 15, "random alike": 9})
        crafted = answers("crafted 30", {"base": 8, "nearest": 4, "capped": 14, "random alike": 8})
        write_parquet([*clean, *crafted], tmp_path / "again.parquet")
        write_parquet(answers("clean", {"base": 7, "shuffled labels": 6}), tmp_path / "controls.parquet")
        own = [*answers("clean", {"base": 8, "ngd": 9}), *answers("crafted 30", {"base": 8, "ngd": 8})]
        write_parquet(own, tmp_path / "paper.parquet")
        return again.kept(folder=tmp_path)

    def test_what_is_compared(self, twice):
        assert set(twice) == {"clean", "crafted 30", "clean, paper", "crafted 30, paper"}
        found = {(c.dataset, c.a, c.b): c for c in again.comparisons(twice)}
        assert found["clean", "nearest", "shuffled labels"].difference == pytest.approx(50)
        assert found["clean", "shuffled labels", "base"].difference == pytest.approx(-10), "the base counts once"
        assert ("crafted 30", "nearest", "random alike") not in found
        (primary,) = (c for c in found.values() if c.primary)
        assert (primary.dataset, primary.a, primary.difference) == ("crafted 30", "capped", pytest.approx(50))

    def test_what_is_lost_is_a_gain_less_the_gain_on_the_clean_set(self, twice):
        lost = {(row["dataset"], row["arm"]): row for row in again.lost(twice, twice)}
        assert all(row["n"] == 20 for row in lost.values())
        assert lost["crafted 30", "nearest"]["difference"] == pytest.approx(-60), "from 40 to −20"
        assert lost["crafted 30", "capped"]["difference"] == pytest.approx(-5)
        assert lost["crafted 30, paper", "ngd"]["difference"] == pytest.approx(-5), "beside its own setting"
        assert not any(dataset.startswith("clean") for dataset, _ in lost)

    @pytest.mark.parametrize("name", again.ROUNDS)
    def test_the_summary_is_what_the_records_say(self, name):
        told = json.loads((again.RESULTS / f"{name}.json").read_text())
        found = again.summary(name)
        assert told["rows"] == found["rows"] and told["lost"] == found["lost"]
        for one, kept in zip(again.comparisons(again.kept(name)), told["comparisons"], strict=True):
            assert kept == pytest.approx(json.loads(one.model_dump_json()))

    def test_what_stands_is_what_the_page_says(self):
        page, compared = (STUDY / "README.md").read_text(), again.comparisons(again.kept())
        assert compare.table(c for c in compared if not c.dataset.endswith(again.PAPER)) in page
        stand = {(c.dataset, c.a) for c in compared if c.b == "nearest" and not c.primary and c.p_holm < 0.05}
        assert stand == {("crafted 30", "median of means"), ("crafted 30", "consistent")}
        by_kind = {}
        for name in ("clean", "crafted 30"):
            arms = compare.by_arm(again.kept()[name])
            won, kinds = again.gains_of(arms)["nearest"], {r.id: r.subject for r in arms["base"]}
            for kind in {*kinds.values()}:
                own = [gain for id_, gain in won.items() if kinds[id_] == kind]
                by_kind.setdefault(kind, []).append(100 * float(np.mean(own)))
        lost = {kind: clean - crafted for kind, (clean, crafted) in by_kind.items()}
        least, most = min(lost, key=lost.get), max(lost, key=lost.get)
        assert f"from {lost[least]:.0f} points (`{least}`) to {lost[most]:.0f} (`{most}`)" in page
        (doubted,) = (c for c in compared if (c.dataset, c.a, c.b) == ("duplicates 30", "median of means", "nearest"))
        assert f"p = {doubted.p_holm:.3f}" in page

    def test_what_is_asked_is_what_the_protocol_says(self):
        config = yaml.safe_load((STUDY / "again.yaml").read_text())
        assert {*again.DEFENCES} < {*config["arms"]} and {a for _, a, _ in again.PRIMARY} <= {*again.DEFENCES}
        answers = again.kept() | again.kept("colluding")
        for name in ("again", "paper", "colluding"):
            own = yaml.safe_load((STUDY / f"{name}.yaml").read_text())
            for data in own["datasets"]:
                assert data["references_limit"] == 600
                arms = compare.by_arm(answers[data["name"] + again.PAPER * (name == "paper")])
                assert {*own["arms"]} == {*arms} - {"shuffled labels"}
                assert {len(records) for records in arms.values()} == {data.get("limit", 288)}
        controls = compare.by_arm(read_parquet(again.RESULTS / "controls.parquet"))
        base = {r.id: r.choice for r in compare.by_arm(answers["clean"])["base"]}
        assert {r.id: r.choice for r in controls["base"]} == base, "the base that stands for both"
        before = {r.id for own in compare.kept().values() for r in own}
        asked = {r.id for own in again.kept().values() for r in own}
        assert asked and asked.isdisjoint(before)


def test_the_picture_has_a_panel_for_each_attack_that_was_run(folder):
    with plt.rc_context(pictures.STYLE):
        figure = pictures.curves(compare.kept(folder))
    assert [axis.get_title() for axis in figure.axes] == ["crafted neighbours"]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["nearest", "capped"]
    plt.close(figure)


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


def test_what_is_asked_is_what_the_protocol_says():
    sets = [
        d
        for name in ("config", "shares", "beside")
        for d in yaml.safe_load((STUDY / f"{name}.yaml").read_text())["datasets"]
    ]
    same = ("questions", "split", "limit", "references", "references_split", "references_limit")
    assert len({json.dumps([d[key] for key in same]) for d in sets}) == 1
    arms = yaml.safe_load((STUDY / "config.yaml").read_text())["arms"]
    assert {*compare.DEFENCES} < {*arms} and {a for _, a, _ in compare.PRIMARY} <= {*compare.DEFENCES}
