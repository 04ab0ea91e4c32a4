"""The study of knowledge and pathway: what is asked and told, and what its page says of the kept answers."""

import json
import re
from pathlib import Path

import pytest
from knowledge import facts

from c3po_adaptive.storage.picture_file import Picture
from c3po_adaptive.types import Question

STUDY = Path(__file__).parents[2] / "studies" / "knowledge"
SUMMARY = json.loads((STUDY / "results" / "summary.json").read_text(encoding="utf-8"))
PAGE = (STUDY / "README.md").read_text(encoding="utf-8")


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


def test_the_page_says_what_the_summary_says():
    rows = {(row["on"], row["arm"]): row for row in SUMMARY["rows"]}
    costs = [rows["early", arm]["cost"] for arm in ("joint", "chosen", "joint, priced")]
    assert "at {:.1f} against {:.1f} base forwards".format(*costs) in PAGE
    assert f"({costs[2]:.1f}\n  forwards on *early*)" in PAGE
    alone = rows["passage: early", "text"]
    assert f"right on {alone['accuracy']:.0f} % of {alone['n']}" in PAGE


def test_the_page_says_what_holm_leaves():
    """Each p on the page is that of the comparison before it, of the part that the sentence names."""
    others = {(one["on"], one["b"]): one for one in SUMMARY["comparisons"] if one["family"]}
    left = {place for place, one in others.items() if one["p_holm"] < 0.05}
    labels, passages = "joint, shuffled labels", "joint, others' passages"
    sides = {(f"passage: {model}", name) for model in ("early", "sound") for name in (passages, "pathway", "base")}
    assert left == sides | {("passage: sound", labels)}
    assert f"Of the {len(others)} comparisons beside the primary one, Holm leaves seven" in PAGE
    quoted = re.findall(r"([+-]\d+\.\d) \[[^]]+\] \(p = (0\.\d+)", PAGE.replace("−", "-"))
    places = (("passage: early", passages), ("passage: sound", labels), ("passage: early", labels))
    for place, (difference, p) in zip(places, quoted, strict=True):
        assert (f"{others[place]['difference']:+.1f}", f"{others[place]['p_holm']:.3f}") == (difference, p)
