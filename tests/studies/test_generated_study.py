"""The study of written answers: what its page says follows from the records that are kept."""

import json
import re

import pytest
import yaml
from generated import compare

from c3po_adaptive.analysis import statistics as stats


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


def test_few_flips_are_not_told_by_the_bootstrap_alone(found):
    """Those of five questions of five hold zero, and no flip at all is not certainty."""
    rows = {(model, row["arm"]): row for model in compare.MODELS for row in found[model]["generated − likelihood"]}
    assert (rows["sound", "base"]["up"], rows["sound", "base"]["down"]) == (0, 5)
    assert rows["sound", "base"]["ci_high"] > 0
    assert rows["sound", "nearest"]["ci_low"] < 0 == rows["sound", "nearest"]["difference"]
    for row in rows.values():
        assert (row["p"] < 0.05) == (row["ci_high"] < 0)
    apart = [row for model in compare.MODELS for row in found[model]["gains, generated − likelihood"]]
    assert all(row["ci_low"] < 0 < row["ci_high"] for row in apart if row["up"] + row["down"] < 4)


def test_what_is_said_after_holm_stands_in_the_summary(found):
    """Each p of the page is of the comparison that it stands beside, and only what stands after Holm is shown."""
    page = " ".join((compare.RESULTS.parent / "README.md").read_text(encoding="utf-8").split()).replace("−", "-")
    gains, arms = (
        [row for m in found for row in found[m][f"{what}generated − likelihood"]] for what in ("gains, ", "")
    )
    compared = [c for m in found for score in compare.SCORES for c in found[m][score]["comparisons"]]
    others = [c for c in compared if not c["primary"]]
    for rows, family in ((gains, 14), (arms, 10), (others, 27)):
        assert [row["p_holm"] for row in rows] == pytest.approx(stats.holm([row["p"] for row in rows]))
        assert len(rows) == family
    quoted = re.findall(r"([+-]\d+\.\d) \[(-?\d+\.\d), (-?\d+\.\d)\] \(p = (\d\.\d+)", page)
    for rows, index in ((arms, 0), (gains, 1), (others, 2)):
        (row,) = (r for r in rows if f"{r['difference']:+.1f}" == quoted[index][0])
        assert tuple(f"{row[end]:.1f}" for end in ("ci_low", "ci_high")) == quoted[index][1:3]
        assert f"{row['p_holm']:.3f}" == quoted[index][3] and row["p_holm"] < 0.05
    assert len(quoted) == 3
    assert [c for c in others if c["p_holm"] < 0.05] == [c for c in compared if c["p"] < 0.001], "one stands"
    (primary,) = (c for c in compared if c["primary"])
    assert (primary["a"], primary["b"]) == ("nearest", "base") and primary in found["early"]["generated"]["comparisons"]
    alone = found["sound"]["generated − likelihood"][0], found["sound"]["gains, generated − likelihood"][0]
    assert [f"{row['p']:.2f}" for row in alone] == ["0.06", "0.06"] and page.count("p = 0.06") == 2
    assert f"{found['sound']['generated']['none']['shuffled labels']:.0f} % of what is written" in page
    accuracies = [found[m]["likelihood"]["accuracy"]["base"] for m in found]
    assert [f"{a:.1f}" for a in accuracies] == ["67.9"] * 2 and "answer 67.9 %" in page
    assert f"±{found['sound']['generated − likelihood'][1]['ci_high']:.1f} points" in page


def test_the_picture_has_every_arm(found):
    figure = compare.picture(found)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [*reversed(("nearest", *compare.CONTROLS))]
    assert [axis.get_title() for axis in figure.axes] == [*compare.MODELS.values()]
