"""Questions that a source gives under several ids: counted once in runs, and runs of before are drawn as they are."""

import json

import pytest
import yaml
from cli.test_cli import call, place  # noqa: F401 (a fixture)

from c3po_adaptive.study.data import Asked
from c3po_adaptive.study.worker import Worker
from c3po_adaptive.tasks import load_questions

pytestmark = pytest.mark.usefixtures("undrawn")
SAID = "twice gives 2 of its questions again under another id (1 with another answer), such as 'b', which is 'a'"


@pytest.fixture(scope="module")
def twice(place):  # noqa: F811
    """A configuration whose questions are two: three times, and once."""
    rows = [("a", "Is it?", 0), ("b", "Is it?", 0), ("c", "Is it?", 1), ("d", "Was it?", 1)]
    lines = [{"id": i, "question": q, "choices": ["yes", "no"], "answer": a} for i, q, a in rows]
    (place / "twice.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arms = {"base": {"optimizer": "none"}, "core": {"optimizer": {"name": "none", "start": "core"}}}
    config = {"model": "model", "datasets": [{"name": "twice", "questions": "twice.jsonl"}], "arms": arms}
    (place / "twice.yaml").write_text(yaml.safe_dump(config))
    return place


def rows_of(run):
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def test_a_run_counts_each_once_and_says_it_once(twice):
    assert SAID in call("study", "plan", "twice.yaml")
    assert call("study", "run", "twice.yaml", "--out", "once").count(SAID) == 1
    assert [r["id"] for r in rows_of(twice / "once") if r["arm"] == "base"] == ["a", "d"]
    summary = json.loads((twice / "once" / "summary.json").read_text())
    assert {row["n"] for row in summary["rows"]} == {2}
    assert summary["counted_once"] == [SAID]
    assert (twice / "once" / "report.html").read_text().count("Counted once") == 1


def test_a_run_of_before_is_drawn_and_exported_as_it_is(twice, monkeypatch):
    """It counted each: its records, its summary and the texts of its questions stay."""
    asked = {"twice": Asked(load_questions("twice.jsonl"), ())}
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "data", asked)
        call("study", "run", "twice.yaml", "--out", "before")
    summary = json.loads((twice / "before" / "summary.json").read_text())
    assert {row["n"] for row in summary["rows"]} == {4}
    del summary["counted_once"]
    (twice / "before" / "summary.json").write_text(json.dumps(summary))
    call("report", "before")
    assert json.loads((twice / "before" / "summary.json").read_text()) == summary
    page = (twice / "before" / "report.html").read_text()
    assert "Counted once" not in page
    rows = rows_of(twice / "before")
    (twice / "before" / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows[:-1]))
    (twice / "before" / "summary.json").unlink()
    call("report", "before")
    assert json.loads((twice / "before" / "summary.json").read_text())["counted_once"] == []
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    for folder in call("export", "before", "--out", "logs").split():
        (file,) = (twice / folder).glob("samples_*.jsonl")
        assert len(file.read_text().splitlines()) in (3, 4)
