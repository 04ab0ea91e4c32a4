"""``c3po runs``, which lists what was run, and ``load_run``, which reads it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from cli.test_cli import call, place  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from c3po_adaptive import load_run
from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.storage.run_folder import claim

pytestmark = pytest.mark.usefixtures("undrawn")
OPTIONS = ("demo", "--model", "model", "--references", "references.jsonl", "--limit", "8", "--arm", "kernel-regression")


@pytest.fixture(scope="module")
def runs(place):  # noqa: F811
    """Two of them, in the working folder."""
    call(*OPTIONS, "--arm", "mode-finding", "--out", "A")
    call(*OPTIONS, "--out", "B")


class TestList:
    def test_every_run_below_a_folder(self, runs, place, tmp_path):  # noqa: F811
        shutil.copytree("A", tmp_path / "deep" / "er")
        begun = shutil.copytree("B", tmp_path / "begun")
        (begun / "summary.json").unlink()
        (tmp_path / "none").mkdir()
        (tmp_path / "none" / "config.json").write_text("{}")
        found = {r["folder"]: r for r in json.loads(call("runs", tmp_path, "--json"))}
        assert {str(tmp_path / "deep" / "er"), str(begun)} == {*found}
        one = found[str(tmp_path / "deep" / "er")]
        assert one | {"changed": ""} == {
            "folder": str(tmp_path / "deep" / "er"),
            "kind": "comparison",
            "model": "model",
            "datasets": ["demo"],
            "arms": ["base", "kernel-regression", "mode-finding"],
            "state": "finished",
            "changed": "",
        }
        assert found[str(begun)]["state"] == "not finished"
        told = call("runs", tmp_path)
        assert "base, kernel-regression, mode-finding" in told
        assert told.index("finished") > 0

    def test_of_many_arms_the_first_are_shown(self, tmp_path):
        arms = {"base": {}} | {f"arm-{i}": {} for i in range(9)}
        claim(tmp_path / "run", {"model": "m", "arms": arms, "datasets": []})
        assert "base, arm-0, arm-1, arm-2, … 6 more" in call("runs", tmp_path)

    def test_the_latest_stands_first(self, runs, tmp_path):
        for name, time in (("old", 1000), ("new", 2000)):
            copy = shutil.copytree("A", tmp_path / name)
            for path in copy.iterdir():
                os.utime(path, (time, time))
        assert [Path(r["folder"]).name for r in json.loads(call("runs", tmp_path, "--json"))] == ["new", "old"]

    def test_of_none(self, tmp_path):
        assert call("runs", tmp_path).startswith(f"There are no runs in {tmp_path} yet; c3po demo or c3po study run ")
        result = CliRunner().invoke(app, ["runs", str(tmp_path / "nowhere")])
        assert (result.exit_code, "there is no folder" in result.stderr) == (1, True)

    def test_before_there_is_any(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert call("runs").startswith("There are no runs in runs yet; c3po demo or c3po study run ")
        assert call("runs", "--json") == "[]\n"

    def test_of_several_folders_each_once(self, runs, tmp_path):
        for name in ("one", "two"):
            shutil.copytree("A", tmp_path / name / "run")
        found = json.loads(call("runs", tmp_path / "one", tmp_path / "two", tmp_path, "--json"))
        assert sorted(r["folder"] for r in found) == [str(tmp_path / name / "run") for name in ("one", "two")]


def test_two_of_them_are_put_side_by_side_by_a_companion(runs, monkeypatch):
    monkeypatch.setattr("c3po_adaptive.cli.runs.registry_with", lambda plugins: new_registry(installed=False))
    result = CliRunner().invoke(app, ["report", "A", "B"])
    assert (result.exit_code, "plugins/compare, which is installed with" in result.stderr) == (1, True)


class TestLoad:
    def test_a_table_of_plain_values(self, runs):
        run = load_run("A")
        assert [(row["dataset"], row["arm"]) for row in run.table] == [
            ("demo", "base"),
            ("demo", "kernel-regression"),
            ("demo", "mode-finding"),
        ]
        summary = json.loads(Path("A", "summary.json").read_text())
        assert run.table[1]["accuracy"] == summary["rows"][1]["accuracy"]
        assert run.table[1]["cost_total"] == summary["rows"][1]["cost"]["total"]
        assert not any(isinstance(value, dict) for row in run.table for value in row.values())
        assert {(c["a"], c["b"]) for c in run.comparisons} >= {("mode-finding", "base")}
        assert len(run.records) == 24
        assert run.config["model"] == "model"
        assert repr(run) == "SavedRun('A', 3 rows)"

    def test_what_is_no_finished_run_is_refused(self, runs, tmp_path):
        with pytest.raises(DataError, match="Expected a run folder"):
            load_run(tmp_path)
        cut = shutil.copytree("A", tmp_path / "cut")
        (cut / "summary.json").unlink()
        with pytest.raises(DataError, match="give its command again to finish it"):
            load_run(cut)
        (cut / "summary.json").write_text("[]")
        with pytest.raises(DataError, match="expected a JSON object"):
            load_run(cut)
        (cut / "summary.json").write_text("{}")
        (cut / "records.jsonl").write_text("{\n{}\n")
        assert load_run(cut).table == []
        with pytest.raises(DataError, match="expected a JSON object a line"):
            _ = load_run(cut).records
