"""What studies keep is held against what they read; and places where files cannot be."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hostile.doors import is_refused, passed
from speed.rows import TimedCase, TimedSearch
from speed.run import _finished

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.storage.run_folder import claim
from c3po_adaptive.study.faithfulness import STUDY
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.testing import write_tiny_checkpoint

RESULTS = Path(__file__).parents[2] / "studies"
WRONG = (None, "x", -1, 10**30, float("nan"), [], [None], [[[1]]], {}, {"x": None}, "\ud800", True)
FAITHFULNESS = json.loads((RESULTS / "faithfulness" / "results" / "summary.json").read_text())
SPEED = json.loads((RESULTS / "speed" / "results" / "summary.json").read_text())


def draws(folder, summary):
    (folder / "summary.json").write_text(json.dumps(summary))
    return passed(lambda: STUDY.draw_report(folder))


@pytest.mark.usefixtures("undrawn")  # what pictures are made of is spoilt below
@pytest.mark.parametrize("key", FAITHFULNESS)
def test_summaries_of_faithfulness(tmp_path, key):
    for value in WRONG:
        draws(tmp_path, FAITHFULNESS | {key: value})
    missing = {k: v for k, v in FAITHFULNESS.items() if k != key}
    if key not in ("kind", "hashes"):
        is_refused(lambda: STUDY.draw_report((tmp_path / "summary.json").write_text(json.dumps(missing)) and tmp_path))


@pytest.mark.parametrize("part", ["rows", "layers"])
def test_rows_of_faithfulness(tmp_path, part):
    first, *rest = FAITHFULNESS[part]
    for key in first:
        for value in WRONG[:9]:
            draws(tmp_path, FAITHFULNESS | {part: [first | {key: value}, *rest[:2]]})
        draws(tmp_path, FAITHFULNESS | {part: [{k: v for k, v in first.items() if k != key}, *rest[:2]]})


@pytest.mark.parametrize("value", [None, "x", 1, {}, [1], [None], [[]], [{}], [{"case": 1}]], ids=repr)
def test_rows_of_speed(tmp_path, value):
    for name, kind in (("rows.json", TimedCase), ("searches.json", TimedSearch)):
        (tmp_path / name).write_text(json.dumps(value))
        is_refused(lambda name=name, kind=kind: _finished(tmp_path / name, kind))
    (tmp_path / "rows.json").write_text(json.dumps(SPEED["rows"]))
    rows = _finished(tmp_path / "rows.json", TimedCase)
    assert [row.model_dump(mode="json") for row in rows] == SPEED["rows"]


def test_a_long_line_is_refused_when_it_is_read(tmp_path):
    """Fifty megabytes took minutes and gigabytes to be tokenized, and were refused then."""
    row = {"id": "a", "task": "t", "question": "x " * 25_000_000, "choices": ["a", "b"], "answer": 0}
    (tmp_path / "long.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"at most 1,000,000 characters, got 50,000,000") as caught:
        load_questions(tmp_path / "long.jsonl")
    assert len(str(caught.value)) < 500


def test_a_folder_that_turned_read_only(tmp_path, monkeypatch):
    """Simulated: tests may run as root, whom permissions do not stop."""
    claim(tmp_path, {"a": 1})
    (tmp_path / "summary.json").write_text(json.dumps(FAITHFULNESS))

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    is_refused(lambda: claim(tmp_path, {"a": 1}))
    is_refused(lambda: STUDY.draw_report(tmp_path))


def test_no_temporary_folder(tmp_path, monkeypatch):
    """Nothing of a plain answer needs one; where one is needed and lacking, that is said."""

    def none(*args, **kwargs):
        raise FileNotFoundError(2, "No usable temporary directory found")

    folder = write_tiny_checkpoint(tmp_path / "model", "olmoe")
    monkeypatch.setenv("C3PO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert load_moe_model(folder).score_choices("Is it so?", ["yes", "no"]) is not None
    monkeypatch.setattr(tempfile, "mkdtemp", none)
    is_refused(lambda: load_moe_model(folder, device="auto"))
