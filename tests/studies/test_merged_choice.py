"""What is asked next of a model with a wrong router: the best try of each arm."""

from pathlib import Path

import pytest
import yaml
from merged import choose
from records.made import answered
from study.configs import parse_config

from c3po_adaptive.errors import DataError

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
    assert {len(of) for of in tried.values()} == {TRIES}
    assert all(of.count(one) == 1 for of in tried.values() for one in of)
    assert {arm for pair in choose.COMPARED for arm in pair} <= {*tried, *choose.CONTROLS}


def test_the_most_right_is_chosen_and_of_equals_the_one_of_least_loss():
    found = choose.tries(
        [*answers({"base": 3, "each / 1": 5, "one / 1": 6}), *answers({"each / 2": 5, "one / 2": 5}, sure=0.5)]
    )
    assert {arm: choose.best(of)["setting"] for arm, of in found.items()} == {"base": "", "each": "2", "one": "1"}
    assert [one["accuracy"] for one in found["each"]] == [50, 50]
    row = choose.table(found).splitlines()[3]
    assert row.startswith("| each | 2 | 50.0 | 0.72") and "| 50.0, 50.0 |" in row


@pytest.mark.parametrize(
    "records",
    [answers({"base": 3, "each / 1": 5, "one / 1": 6, "one / 2": 6}), answers({"base": 3, "each / 1": 5})[:-1]],
    ids=["one arm has more tries", "a try is not done"],
)
def test_unequal_tries_are_refused(records):
    with pytest.raises(DataError, match=r"arms\.yaml to its end"):
        choose.tries(records)


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
    assert len(config.arms) == len(chosen) + 3 + len(choose.CONTROLS)
    (dataset,) = config.datasets
    assert (dataset.questions, dataset.split, dataset.limit) == ("asked.jsonl", None, None)
    assert dataset.references == own.datasets[0].references and len(config.compare) == len(choose.COMPARED)
