"""Questions that a source gives under several ids: counted once in runs."""

import json

import pytest
import yaml
from cli.test_cli import call, place  # noqa: F401 (a fixture)

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
