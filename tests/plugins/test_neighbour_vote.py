"""An answerer outside the package: an arm like any other, without a word of it in the package."""

import json
from pathlib import Path

import pytest
from study.configs import parse_config

from c3po_adaptive.errors import SettingError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.storage.run_folder import read_records
from c3po_adaptive.study.comparison import evaluate
from c3po_adaptive.testing import AnswererContract, write_tiny_checkpoint

FILE = Path(__file__).parents[2] / "plugins" / "neighbour_vote.py"
COLORS = {"sky": "blue", "grass": "green", "blood": "red", "snow": "white", "coal": "black", "sun": "yellow"}


@pytest.fixture
def registry():
    registry = new_registry()
    registry.load_file(FILE)
    return registry


class TestNeighbourVote(AnswererContract):
    @pytest.fixture
    def answerer(self, registry):
        return registry.create("answerer", "neighbour-vote")


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
        "vote": {"answerer": "neighbour-vote", "retriever": {"name": "faiss-knn", "k": 1}, "learn_from": "all"},
    }
    data = {"name": "color", "questions": "test.jsonl", "split": None, "references": ["references.jsonl"]}
    return parse_config({"model": "model", "datasets": [data | changes], "arms": arms})


def test_is_an_arm_like_any_other(place, registry):
    summary = evaluate(config(), place / "run", registry=registry)
    row = next(row for row in summary["rows"] if row["arm"] == "vote")
    assert row["accuracy"] == 100.0
    assert row["optimizer"] == "neighbour-vote"
    assert row["layers"] == 0
    assert row["setting"]["answerer"] == {"name": "neighbour-vote", "temperature": 0.1}
    assert row["setting"]["retriever"]["k"] == 1
    assert row["setting"].keys() == {"answerer", "retriever", "learn_from", "labels"}, "what has no part is not named"
    assert row["cost"]["total"] == row["cost"]["embedding"] > 0
    assert "vote" in (place / "run" / "report.html").read_text()
    base, vote = ([r for r in read_records(place / "run") if r["arm"] == arm] for arm in ("base", "vote"))
    assert [r["base_scores"] for r in vote] == [r["scores"] for r in base]


def test_without_references_says_so(place, registry):
    with pytest.raises(SettingError, match="neighbour-vote expected references, got none"):
        evaluate(config(references=[]), place / "run", registry=registry)


def test_a_question_is_not_its_own_neighbour(place, registry):
    evaluate(config(questions="references.jsonl"), place / "run", registry=registry)
    for row in read_records(place / "run"):
        assert row["id"] not in {n["id"] for n in row["neighbours"]}
