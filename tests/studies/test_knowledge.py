"""The study of knowledge and pathway: what is asked and told, and what its page says of the kept answers."""

import json
import re

import pytest
from knowledge import compare, facts

from c3po_adaptive.storage.picture_file import Picture
from c3po_adaptive.types import Question


@pytest.mark.parametrize(
    ("kind", "asked", "told"),
    [
        ("lama_capital", "What is the capital of Pendle?", "The capital of Pendle is wood."),
        ("lama_tv_network", 'On which network was "Turbo" first shown?', '"Turbo" was first shown on wood.'),
    ],
)
def test_a_fact_is_told_with_the_right_answer(kind, asked, told):
    assert facts.sentence(Question("a", asked, ("iron", "wood"), 1, task=kind)) == told


@pytest.mark.parametrize("wrong", [{"task": "sciq"}, {"question": "Where is it?"}, {"answer": None}])
def test_what_is_no_such_fact_is_refused(wrong):
    given = {"task": "lama_capital", "question": "What is the capital of Pendle?", "answer": 0}
    with pytest.raises(ValueError, match="lama_capital"):
        facts.sentence(Question("a", choices=("iron", "wood"), **given | wrong))


def test_what_is_asked_is_written_with_what_pictures_show(monkeypatch, tmp_path):
    def found(source, split):
        kind = source.removeprefix("bed:")
        asked = facts.FACTS.get(kind, ("Which?",))[0].replace("(.*)", "Pendle").replace("\\", "")
        return [
            Question(
                f"{kind}/{split}", asked, ("iron", "wood"), 1, images=[b"one"] if kind == "svamp_operation" else ()
            )
        ]

    monkeypatch.setattr(facts, "questions", found)
    monkeypatch.setattr(Picture, "digest", "shown")
    facts.main(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * len((*facts.FACTS, *facts.LEARNED))
    assert [row.get("images") for row in rows if row["task"] == "svamp_operation"] == [["shown"]] * 3
    assert not any("images" in row for row in rows if row["task"] != "svamp_operation")


def test_the_kept_summary_is_what_the_kept_answers_say():
    told = json.loads((compare.RESULTS / "summary.json").read_text())
    found = json.loads(json.dumps(compare.told(compare.kept())))
    assert told["rows"] == found["rows"]
    for one, again in zip(told["comparisons"], found["comparisons"], strict=True):
        assert one == pytest.approx(again)


def test_the_page_says_what_the_summary_says():
    """Every difference with its interval on the page is one of the summary's, and so are costs."""
    page = (compare.RESULTS.parent / "README.md").read_text()
    summary = json.loads((compare.RESULTS / "summary.json").read_text())
    told = summary["comparisons"]
    known = {f"{one['difference']:+.1f} [{one['ci_low']:.1f}, {one['ci_high']:.1f}]".replace("-", "−") for one in told}
    said = re.findall(r"[+−]\d+\.\d \[−?\d+\.\d, −?\d+\.\d\]", page)
    assert len(said) > 5
    assert set(said) <= known
    rows = {
        (row["part"], row["arm"]): row for row in json.loads((compare.RESULTS / "summary.json").read_text())["rows"]
    }
    costs = [rows["early", arm]["cost"] for arm in ("joint", "chosen", "joint, priced")]
    assert "at {:.1f} against {:.1f} base forwards".format(*costs) in page
    assert f"({costs[2]:.1f}\n  forwards on *early*)" in page
    alone = rows["early, passage", "text"]
    assert f"right on {alone['accuracy']:.0f} % of {alone['n']}" in page


def test_the_page_says_what_holm_leaves():
    """Each p on the page is that of the comparison before it, of the part that the sentence names."""
    page = (compare.RESULTS.parent / "README.md").read_text().replace("−", "-")
    told = json.loads((compare.RESULTS / "summary.json").read_text())["comparisons"]
    others = [one for one in told if not one["primary"]]
    left = {(one["dataset"], one["b"]) for one in others if one["p_holm"] < 0.05}
    labels, passages = "joint, shuffled labels", "joint, others' passages"
    sides = {(f"{model}, passage", name) for model in compare.MODELS for name in (passages, "pathway", "base")}
    assert left == sides | {("sound, passage", labels)}
    assert f"Of the {len(others)} comparisons beside the primary one, Holm leaves seven" in page
    known = {(one["dataset"], one["b"]): one for one in told}
    quoted = re.findall(r"([+-]\d+\.\d) \[[^]]+\] \(p = (0\.\d+)", page)
    places = (("early, passage", passages), ("sound, passage", labels), ("early, passage", labels))
    wanted = [known[place] for place in places]
    assert [
        (f"{one['difference']:+.1f}", round(one["p_holm"], len(p) - 2))
        for one, (_, p) in zip(wanted, quoted, strict=True)
    ] == [(difference, float(p)) for difference, p in quoted]
