"""What is asked next of a model with a wrong router: the best try of each arm."""

import shutil
from pathlib import Path

import pandas
import pytest
import yaml
from merged import arms_page, choose, narrow
from records.made import answered
from study.configs import parse_config, small_study
from typer.testing import CliRunner

from c3po_adaptive.errors import DataError
from c3po_adaptive.registry import default_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.study.kinds import read_study

pytestmark = pytest.mark.usefixtures("undrawn")

ARMS = Path(__file__).parents[2] / "studies" / "merged" / "arms.yaml"
CONFIG = yaml.safe_load(ARMS.read_text())
TRIES = 4


def answers(right, sure=1.0):
    """Of each try to ten questions, so many of them right, by so many nats."""
    return [
        answered(arm=arm, id=f"{n}", correct=n < count, scores=(sure if n < count else -sure, 0.0))
        for arm, count in right.items()
        for n in range(10)
    ]


def test_each_arm_has_as_many_tries_and_equal_ones_are_not_tried_twice():
    tried = {}
    for name, arm in CONFIG["arms"].items():
        rival, apart, setting = name.partition(choose.APART)
        assert bool(apart) == (rival != choose.BASE) == bool(setting)
        tried.setdefault(rival, []).append(arm)
    del tried[choose.BASE]
    more = dict.fromkeys(("last five", "one for all", "router tuning", "lora", "ngd"), TRIES + 1)
    assert {rival: len(of) for rival, of in tried.items()} == dict.fromkeys(tried, TRIES) | more
    assert all(of.count(one) == 1 for of in tried.values() for one in of)
    assert {arm for pair in choose.COMPARED for arm in pair} <= {*tried, "nearest", *choose.CONTROLS}


def test_the_most_right_is_chosen_and_of_equals_the_one_of_least_loss():
    records = [*answers({"base": 3, "each / 1": 5, "one / 1": 6}), *answers({"each / 2": 5, "one / 2": 5}, sure=0.5)]
    found = choose.tries(records, {record.arm for record in records})
    assert {arm: choose.best(of)["setting"] for arm, of in found.items()} == {"base": "", "each": "2", "one": "1"}
    assert [one["accuracy"] for one in found["each"]] == [50, 50]
    row = choose.table(found).splitlines()[3]
    assert row.startswith("| each | 2 | 50.0 | 0.72") and "| 50.0, 50.0 |" in row


def test_what_was_spent_once_is_the_mean_over_data_sets():
    records = [answered(arm="base", id="q", dataset=name, once=once) for name, once in (("a", 10.0), ("b", 20.0))]
    assert choose.tries(records, ["base"])["base"][0]["once"] == 15
    records.append(answered(arm="base", id="q", dataset="c"))
    assert choose.tries(records, ["base"])["base"][0]["once"] is None


@pytest.mark.parametrize("lacking", ["each / 2", "each / 1"], ids=["not begun", "not done"])
def test_what_was_not_run_to_its_end_is_refused(lacking):
    records = answers({"base": 3, "each / 1": 5})
    records = records[:-1] if lacking == "each / 1" else records
    with pytest.raises(DataError, match=rf"of '{lacking}'; give the run's command again"):
        choose.tries(records, ["base", "each / 1", lacking])


@pytest.mark.parametrize("kept", sorted((ARMS.parent / "results/arms").glob("*-0.json")), ids=lambda kept: kept.stem)
def test_tries_that_a_run_left_behind_are_taken_in_its_place(kept):
    config, found = choose.read_tries(kept)
    tried = [(arm, one["setting"]) for arm, of in found.items() for one in of]
    names = {f"{arm}{choose.APART}{setting}" if setting else arm for arm, setting in tried}
    assert config == CONFIG and names <= config["arms"].keys()
    asked = choose.asked_next(config, choose.settings(found), "balanced.jsonl")["arms"]
    assert {"each", "nearest", "ngd, published", "repaired"} < asked.keys()


def test_what_longer_training_found_is_told_as_it_was_answered():
    right = {}
    for name in ("arms/hidden_avg-8-0", "arms/hidden_avg-8-0-second", "second/hidden_avg-8-0"):
        kept = pandas.read_parquet(ARMS.parent / "results" / f"{name}.parquet")
        right |= (kept.choice == kept.answer).groupby(kept.arm).mean().mul(100).to_dict()
    step = max(share for arm, share in right.items() if arm.startswith("each / "))
    said = (ARMS.parent / "README.md").read_text(encoding="utf-8")
    assert f"right on {right['router tuning / 10 passes 0.003']:.1f} % of 105" in said and f"on {step:.1f} % ([" in said
    assert f"right on {right['router tuning']:.1f} and {right['each']:.1f} %." in said


def test_what_arms_win_and_cost_is_told_as_it_was_answered(tmp_path):
    second = shutil.copytree(ARMS.parent / "results" / "second", tmp_path / "second")
    told = (second / "arms.md").read_text(encoding="utf-8")
    (second / "arms.md").unlink()
    assert CliRunner().invoke(arms_page.app, [str(second)]).exit_code == 0
    assert (second / "arms.md").read_text(encoding="utf-8") == told and "| each | 65.9 | +11.2 [5.5, 16.7] |" in told


def test_later_models_are_tuned_among_the_two_best_tries_of_each_arm():
    right = dict(zip(CONFIG["arms"], [3, 5, 6, 4, 3, *[2] * (len(CONFIG["arms"]) - 5)], strict=True))
    kept = narrow.narrowed(CONFIG, choose.tries(answers(right), right))["arms"]
    of = [name for name in kept if name.startswith("each / ")]
    assert of == ["each / 12", "each / 50"] and "base" in kept and "mode finding / published" in kept
    rivals = [name.partition(choose.APART)[0] for name in kept if not name.endswith(choose.PUBLISHED)]
    assert [rivals.count(one) for one in ("each", "router tuning", "ngd", "base")] == [2, 2, 2, 1]
    assert all(kept[name] == CONFIG["arms"][name] for name in kept)


def test_what_is_asked_next_is_a_study_of_the_chosen_arms_with_controls_and_what_was_published():
    plain = parse_config(CONFIG).model_dump(mode="json")
    chosen = {name.partition(choose.APART)[0]: name.partition(choose.APART)[2] for name in CONFIG["arms"]}  # the last
    raw = choose.asked_next(plain, chosen, "asked.jsonl")
    config = parse_config(raw)
    own = parse_config(CONFIG)
    for arm, setting in chosen.items():
        assert config.arms[arm] == own.arms[f"{arm} / {setting}" if setting else arm]
    assert config.arms["ngd, published"] == own.arms["ngd / published"] != config.arms["ngd"]
    shuffled, alike = (config.arms[name] for name in choose.CONTROLS)
    assert shuffled == own.arms["each / lead 50"].model_copy(update={"labels": "shuffled", "control_of": ("each",)})
    assert (alike.loss, alike.optimizer, alike.name_of("retriever")) == ("lead", shuffled.optimizer, "random")
    assert len(config.arms) == len(chosen) + 3 + len(choose.CONTROLS) + 1
    (dataset,) = config.datasets
    assert (dataset.questions, dataset.split, dataset.limit) == ("asked.jsonl", None, None)
    assert dataset.references == own.datasets[0].references and len(config.compare) == len(choose.COMPARED)


def test_a_run_of_tries_is_followed_by_a_run_of_the_chosen_ones(tmp_path):
    registry, all_layers = default_registry(), {"name": "fixed", "layers": "all"}
    step = {"optimizer": {"name": "integrated-step", "lr": 9}, "selector": all_layers, "learn_from": "all"}
    once = {**step, "optimizer": {"name": "constant-integrated-step", "lr": 9}}
    arms = {
        "base": {"optimizer": "none"},
        "each / 5": {**step, "retriever": {"name": "faiss-knn", "k": 5}},
        "one a cluster / 3": {**step, "retriever": {"name": "nearest-cluster", "clusters": 3}},
        "one a kind, told / 9": {**once, "answerer": "told-kind"},
    }
    tries = small_study(tmp_path).model_copy(update={"arms": parse_config({"arms": arms}).arms})
    STUDY.run(tries, tmp_path / "tried", registry)
    file = str(tmp_path / "test.jsonl")
    done = CliRunner().invoke(
        choose.app, [str(tmp_path / "tried"), "--questions", file, "--out", str(tmp_path / "next")]
    )
    assert done.exit_code == 0 and "| one a cluster | 3 |" in done.output
    _, config = read_study(tmp_path / "next" / "test.yaml", registry=lambda: registry)
    assert [*config.arms] == ["base", "each", "one a cluster", "one a kind, told", *choose.CONTROLS, "nearest"]
    rows = STUDY.run(config, tmp_path / "asked", registry).rows
    assert {row.n for row in rows} == {12} and len(rows) == 7


def test_tries_of_two_runs_are_chosen_among_as_if_they_were_of_one(monkeypatch):
    runs = {"first": {"base": 3, "each / 1": 5, "one / 1": 4}, "second": {"base": 3, "one / 2": 6, "all": 2}}
    monkeypatch.setattr(
        choose,
        "read_tries",
        lambda run: ({"arms": {a: {} for a in runs[run]}, "of": run}, choose.tries(answers(runs[run]), runs[run])),
    )
    config, found = choose.read_several(["first", "second"])
    assert config == {"of": "first", "arms": {"base": {}, "each / 1": {}, "one / 1": {}, "one / 2": {}, "all": {}}}
    assert choose.settings(found) == {"base": "", "each": "1", "one": "2", "all": ""} and len(found["base"]) == 1
    runs["second"]["each / 1"] = 7
    assert choose.read_several(["first", "second"])[1] == found, "a try of both counts once, as the first has it"
    runs["first"], runs["third"] = {"base": 3}, {"all": 2}
    monkeypatch.setattr(
        choose,
        "read_tries",
        lambda run: ({"arms": {}}, choose.tries(answers(runs[run])[: 4 if run == "third" else None], runs[run])),
    )
    with pytest.raises(DataError, match="tries on the same questions"):
        choose.read_several(["first", "third"])
