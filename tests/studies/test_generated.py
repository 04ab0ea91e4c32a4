"""The study of written answers: what its page says follows from the records that are kept."""

import json

import pytest
import yaml
from generated import compare


@pytest.fixture(scope="module")
def found():
    return compare.summary()


def test_the_summary_is_what_the_records_say(found):
    kept = json.loads((compare.RESULTS / "summary.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(found)) == kept


def test_all_arms_answered_the_same_questions_both_ways():
    config = yaml.safe_load((compare.RESULTS.parent / "config.yaml").read_text(encoding="utf-8"))
    one, other = config["datasets"]
    assert {key for key in other if one.get(key) != other[key]} == {"name", "score"}
    for model in compare.MODELS:
        answers = compare.kept(model)
        asked = {tuple(sorted(r.id for r in records)) for arms in answers.values() for records in arms.values()}
        assert len(asked) == 1 and len(*asked) == one["limit"]
        assert all(arms.keys() == config["arms"].keys() for arms in answers.values())
        assert {r.chosen_by for records in answers["generated"].values() for r in records} == {"text"}


def test_what_is_won_one_way_less_the_other(found):
    for model in compare.MODELS:
        gains = {score: found[model][score]["comparisons"] for score in compare.SCORES}
        apart = found[model]["gains, generated − likelihood"]
        pairs = zip(gains["generated"], gains["likelihood"], apart, strict=True)
        for one, other, differing in pairs:
            assert differing["difference"] == pytest.approx(one["difference"] - other["difference"])
            assert differing["ci_low"] <= differing["difference"] <= differing["ci_high"]
        for one in found[model]["generated − likelihood"]:
            both = [found[model][score]["accuracy"][one["arm"]] for score in compare.SCORES]
            assert one["difference"] == pytest.approx(both[1] - both[0])


def test_the_picture_has_every_arm(found):
    figure = compare.picture(found)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [*reversed(("nearest", *compare.CONTROLS))]
    assert [axis.get_title() for axis in figure.axes] == [*compare.MODELS.values()]
