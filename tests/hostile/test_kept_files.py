"""What studies keep is held against what they read; and places where files cannot be."""

import json
import tempfile
from pathlib import Path

import pytest
from hostile.doors import is_refused
from speed.rows import TimedCase, TimedSearch
from speed.run import _finished

from c3po_adaptive.errors import DataError
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.testing import write_tiny_checkpoint

RESULTS = Path(__file__).parents[2] / "studies"
SPEED = json.loads((RESULTS / "speed" / "results" / "summary.json").read_text())


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
