"""``c3po plugins check``, and the check that runs make: as an author of a plugin meets them."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import PluginError
from c3po_adaptive.registry import new_registry

BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
from c3po_adaptive import PathwayOptimizer, hookimpl

@dataclass(frozen=True)
class Doubled(PathwayOptimizer):
    \"\"\"Twice the mass.\"\"\"

    name: ClassVar[str] = "doubled"

    def optimize(self, problem):
        return 2 * problem.own

@hookimpl
def register_optimizers():
    return [Doubled]
"""


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "doubled.py"
    path.write_text(BROKEN)
    return path


class TestCheck:
    def test_says_what_fails_where_and_how_to_mend_it(self, broken, monkeypatch):
        monkeypatch.chdir(broken.parent)
        result = call("plugins", "check", broken.name)
        assert result.exit_code == 1
        assert "optimizer doubled" in result.stdout
        assert "a sum off by" in result.stdout
        assert "doubled.py:" in result.stdout
        assert "and how to mend" in result.stdout

    def test_as_json(self, broken):
        result = call("plugins", "check", broken, "--json")
        assert result.exit_code == 1
        [found] = json.loads(result.stdout)
        assert (found["role"], found["name"]) == ("optimizer", "doubled")
        mass = next(test for test in found["tests"] if test["test"] == "layers keep their mass")
        assert mass["outcome"] == "fails"
        assert mass["where"].endswith("doubled.py:12")

    def test_by_name_with_parameters(self):
        assert call("plugins", "check", "ngd", "--set", "steps=2").exit_code == 0
        refused = call("plugins", "check", "ngd", "--set", "stepps=2")
        assert refused.exit_code == 1
        assert "did you mean 'steps'" in refused.output
        assert call("plugins", "check", "ngd", "--set", "+steps=2").exit_code == 1, "it is there already"

    def test_shapes_are_shown(self):
        assert "[B, L, E]" in call("plugins", "check", "fixed").stdout

    def test_names_like_it_are_suggested(self):
        result = call("plugins", "check", "faiss-kn")
        assert result.exit_code == 1
        assert "did you mean 'faiss-knn'" in result.output

    def test_of_a_folder_its_plugin_is_named(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my-sel").mkdir()
        for name in ("conftest.py", "my_sel.py", "test_my_sel.py"):
            (tmp_path / "my-sel" / name).touch()
        result = call("plugins", "check", "my-sel")
        assert result.exit_code == 1
        assert f"got 'my-sel'; give {Path('my-sel', 'my_sel.py')}." in result.output

    def test_a_file_that_does_not_load_says_the_line(self, tmp_path):
        path = tmp_path / "spoilt.py"
        path.write_text("import c3po_adaptive\n\nMASS = 1 / 0\n")
        result = call("plugins", "check", path)
        assert result.exit_code == 1
        assert "spoilt.py:3" in result.output


class TestRuns:
    """A broken plugin gets no result, and is refused before a model is loaded."""

    @pytest.fixture(autouse=True)
    def _no_model(self, monkeypatch):
        def loaded(*args, **kwargs):
            raise AssertionError("a model was loaded")

        monkeypatch.setattr("c3po_adaptive.study.data.load_moe_model", loaded)  # it has its own, imported before
        monkeypatch.setattr("c3po_adaptive.models.loading.load_moe_model", loaded)

    def test_demo(self, broken, tmp_path):
        result = call("demo", "--plugin", broken, "--arm", "doubled", "--out", tmp_path / "run")
        assert result.exit_code == 1
        assert "layers keep their mass" in result.output
        assert "--unchecked" in result.output
        assert not (tmp_path / "run").exists()

    def test_evaluate(self, broken, tmp_path):
        (tmp_path / "run.yaml").write_text("arms: {base: {optimizer: none}, doubled: {optimizer: doubled}}")
        options = ("--config", tmp_path / "run.yaml", "--plugin", broken, "--out", tmp_path / "run")
        assert "layers keep their mass" in call("evaluate", *options).output
        with pytest.raises(AssertionError, match="a model was loaded"):
            raise call("evaluate", *options, "--unchecked").exception


def test_debug_shows_where_an_error_came_from(tmp_path):
    (tmp_path / "spoilt.py").write_text("MASS = 1 / 0\n")
    result = call("--debug", "plugins", "check", tmp_path / "spoilt.py")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert 'spoilt.py", line 1' in result.stderr
    assert "error: Expected plugin" in result.stderr.splitlines()[-1]
    assert not logging.getLogger("c3po_adaptive").isEnabledFor(logging.DEBUG), "the next command is as it was"
    assert "Traceback" not in call("plugins", "check", tmp_path / "spoilt.py").stderr


def test_python_runs_the_package():
    command = [sys.executable, "-m", "c3po_adaptive", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("c3po_adaptive ")


class TestInstalled:
    """A plugin that is installed and its file: one plugin, and another text of it another run."""

    @pytest.fixture
    def installed(self, broken, monkeypatch):
        """As if ``doubled`` had been installed from a copy of the file."""
        copy = broken.parent / "site" / broken.name
        copy.parent.mkdir()
        copy.write_text(broken.read_text())
        (copy.parent / "doubled-1.dist-info").mkdir()
        said = {
            "METADATA": "Metadata-Version: 2.1\nName: doubled\nVersion: 1\n",
            "entry_points.txt": "[c3po_adaptive]\ndoubled = doubled\n",
        }
        for name, text in said.items():
            (copy.parent / "doubled-1.dist-info" / name).write_text(text)
        monkeypatch.syspath_prepend(copy.parent)
        yield copy
        sys.modules.pop("doubled", None)

    def test_its_file_is_no_second_plugin(self, broken, installed):
        registry = new_registry()
        registry.load_file(broken)
        assert [e.plugin for e in registry.table() if e.name == "doubled"] == ["doubled"]
        assert call("plugins", "check", broken).exit_code == 1, "it breaks its contract, and is checked"

    def test_beside_its_changed_file_is_left_out_or_installed_again(self, broken, installed):
        broken.write_text(broken.read_text() + "\n# changed\n")
        said = r"one optimizer called 'doubled', got .*; leave the file out, and install it again if it was changed"
        with pytest.raises(PluginError, match=said):
            new_registry().load_file(broken)

    def test_another_text_is_another_run(self, installed):
        before = new_registry().files["doubled.py"]
        assert new_registry().files["doubled.py"] == before
        installed.write_text(installed.read_text() + "\n# changed\n")
        assert new_registry().files["doubled.py"] != before


def test_scores_of_another_shape_say_so_once_where_they_are_made(tmp_path):
    source = BROKEN.replace("PathwayOptimizer, hookimpl", "ScoredLayers, hookimpl").replace(
        "(PathwayOptimizer)", "(ScoredLayers)"
    )
    source = source.replace("register_optimizers", "register_layer_selectors").replace("optimize(", "score(")
    path = tmp_path / "doubled.py"
    path.write_text(source.replace("2 * problem.own", "problem.own, None"))
    result = call("plugins", "check", path, "--json")
    mask = next(test for test in json.loads(result.stdout)[0]["tests"] if test["test"] == "mask")
    assert "Expected doubled to score layers, (B, L) = (3, 6), got (3, 6, 24)" in mask["what"]
    assert mask["where"].endswith("doubled.py:12")
