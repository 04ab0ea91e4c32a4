"""The study of written answers: what its page says follows from the records that are kept."""

import json
import re
from pathlib import Path

import pytest
import yaml
from c3po_compare import answers

STUDY = Path(__file__).parents[2] / "studies" / "generated"
MODELS = ("early", "sound")


@pytest.fixture(scope="module")
def found():
    return json.loads((STUDY / "results" / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page():
    return " ".join((STUDY / "README.md").read_text(encoding="utf-8").split()).replace("−", "-")


def test_all_arms_answered_the_same_questions_both_ways():
    config = yaml.safe_load((STUDY / "config.yaml").read_text(encoding="utf-8"))
    one, other = config["datasets"]
    assert {key for key in other if one.get(key) != other[key]} == {"name", "score"}
    table = answers(*(STUDY / "results" / f"{model}.parquet" for model in MODELS))
    asked = table.groupby(["model", "dataset", "arm"]).question.agg(frozenset)
    assert len(asked) == 2 * 2 * len(config["arms"]) and {*table.arm} == {*config["arms"]}
    assert len({*asked}) == 1 and len(asked.iloc[0]) == one["limit"]
    assert {*table[table.dataset == "generated"].chance} == {0}, "texts, which the prompt does not list"


def test_few_flips_are_not_told_by_the_bootstrap_alone(found):
    """Those of five questions of five hold zero, and no flip at all is not certainty."""
    rows = {
        (c["on"], c["a"].removesuffix(" (generated)")): c
        for c in found["comparisons"]
        if c["family"] == "having to write"
    }
    assert rows["sound", "base"]["difference"] == pytest.approx(-100 * 5 / 56) and rows["sound", "base"]["ci_high"] > 0
    assert rows["sound", "nearest"]["ci_low"] < 0 == rows["sound", "nearest"]["difference"]
    assert len(rows) == 10 and all((row["p"] < 0.05) == (row["ci_high"] < 0) for row in rows.values())


def test_what_is_said_after_holm_stands_in_the_summary(found, page):
    """Each p of the page is of the comparison that it stands beside, and only what stands after Holm is shown."""
    families = {}
    for one in found["comparisons"]:
        families.setdefault(one["family"], []).append(one)
    assert {family: len(own) for family, own in families.items()} == {
        None: 1, "secondary": 27, "gains": 14, "having to write": 10,
    }  # fmt: skip
    quoted = re.findall(r"([+-]\d+\.\d) \[(-?\d+\.\d), (-?\d+\.\d)\] \(p = (\d\.\d+)", page)
    for (difference, *ends, p), family in zip(quoted, ("having to write", "gains", "secondary"), strict=True):
        (row,) = (one for one in families[family] if f"{one['difference']:+.1f}" == difference)
        assert [f"{row[end]:.1f}" for end in ("ci_low", "ci_high")] == ends
        assert f"{row['p_holm']:.3f}" == p and row["verdict"] in ("better", "worse")
    assert [one["verdict"] for one in families["secondary"] if one["verdict"] != "not shown"] == ["better"]
    (primary,) = families[None]
    assert (primary["on"], primary["a"], primary["b"]) == ("early, generated", "nearest", "base")


def test_what_the_page_says_beside_intervals(found, page):
    of = {(one["on"], one["a"]): one for one in found["comparisons"]}
    alone = of["sound", "base (generated)"], of["sound", "nearest over base (generated)"]
    assert [f"{row['p']:.2f}" for row in alone] == ["0.06", "0.06"] and page.count("p = 0.06") == 2
    assert f"±{of['sound', 'nearest (generated)']['ci_high']:.1f} points" in page
    rows = {(row["on"], row["arm"]): row for row in found["rows"]}
    assert f"{rows['sound, generated', 'shuffled labels']['no_choice']:.0f} % of what is written" in page
    accuracies = [rows[f"{model}, likelihood", "base"]["accuracy"] for model in MODELS]
    assert [f"{a:.1f}" for a in accuracies] == ["67.9"] * 2 and "answer 67.9 %" in page
