"""The neighbours' answers, copied: an arm like any other."""

import json
from dataclasses import replace

import pytest
from c3po_baselines import KnnLabel
from records.made import plain, rows_in
from study.configs import parse_config

from c3po_adaptive.errors import SettingError
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import toy_context, write_tiny_checkpoint
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(4, "asked")
COLORS = {"sky": "blue", "grass": "green", "blood": "red", "snow": "white", "coal": "black", "sun": "yellow"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Questions whose nearest references have the same right answer, in other words."""
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tiny_checkpoint(tmp_path / "model", "olmoe")
    for name, form in (("references", "The {} looks"), ("test", "What color does the {} have? It looks")):
        rows = [
            {"id": f"{name}-{thing}", "task": "color", "question": form.format(thing),
             "choices": sorted(COLORS.values()), "answer": sorted(COLORS.values()).index(color)}
            for thing, color in COLORS.items()
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def config(**changes):
    arms = {
        "base": {"optimizer": "none"},
        "vote": {"answerer": "knn-label", "retriever": {"name": "faiss-knn", "k": 1}, "learn_from": "all"},
    }
    data = {"name": "color", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}
    return parse_config({"model": "model", "datasets": [data | changes], "arms": arms})


def test_is_an_arm_like_any_other(place):
    summary = plain(STUDY.run(config(), place / "run"))
    row = next(row for row in summary["rows"] if row["arm"] == "vote")
    assert row["accuracy"] == 100.0
    assert row["optimizer"] == "knn-label"
    assert row["layers"] == 0
    assert row["setting"]["answerer"] == {"name": "knn-label", "temperature": 0.1}
    assert row["setting"]["retriever"]["k"] == 1
    assert row["setting"].keys() == {"answerer", "retriever", "learn_from", "labels"}, "what has no part is not named"
    assert all(r["once"] > 0 and r["seconds"] > 0 for r in rows_in(place / "run") if r["arm"] == "vote")
    assert row["cost"]["total"] == row["cost"]["embedding"] > 0
    assert "vote" in (place / "run" / "report.html").read_text()
    base, vote = ([r for r in rows_in(place / "run") if r["arm"] == arm] for arm in ("base", "vote"))
    assert [r["base_scores"] for r in vote] == [r["scores"] for r in base]


def test_without_references_says_so(place):
    with pytest.raises(SettingError, match="knn-label expected references, got none"):
        STUDY.run(config(references=[]), place / "run")


def test_a_question_is_not_its_own_neighbour(place):
    STUDY.run(config(questions="references.jsonl"), place / "run")
    for row in rows_in(place / "run"):
        assert row["id"] not in {n["id"] for n in row["neighbours"]}


def test_the_same_text_counts_as_the_label():
    """Where options are the same few texts in every question, it is a vote."""
    context = toy_context(learn_from="all", max_similarity=1.0)
    known = context.references
    asked = [replace(q, choices=("yes", "no"), answer=0) for q in known.questions]
    labels = {q.id: i % 2 for i, q in enumerate(asked)}
    voting = replace(known, questions=tuple(replace(q, answer=labels[q.id]) for q in asked))
    context = replace(context, build_references=lambda: voting)
    answers = KnnLabel().prepare(context).answer([replace(q, choices=("yes", "no"), answer=None) for q in ASKED])
    for found, answer in zip(context.nearest(ASKED), answers, strict=True):
        shares = [sum(s for q, s in found if q.answer == c) for c in (0, 1)]
        assert answer.choice == int(shares[1] > shares[0])


def test_temperature_is_checked():
    with pytest.raises(SettingError, match=r"knn-label\.temperature"):
        KnnLabel(temperature=0)
