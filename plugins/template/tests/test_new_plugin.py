"""``c3po plugins new``, as an author of a plugin meets it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hostile.doors import command
from hostile.test_parquet import odd  # noqa: F401 (a fixture)
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.registry import ROLES, new_registry
from c3po_adaptive.testing import write_tiny_checkpoint
from c3po_adaptive.testing.answerers import toy_context, toy_questions

UNDER_O = "ignore:assertions not in test modules:pytest.PytestConfigWarning"


def call(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


class TestNew:
    @pytest.fixture(scope="class")
    @classmethod
    def every(cls, tmp_path_factory):
        """A new plugin of each role: its folder, and what was said."""
        out, found = tmp_path_factory.mktemp("new"), {}
        for role in ROLES:
            result = call("plugins", "new", f"my-{role}", "--role", role, "--out", out / f"c3po-my-{role}")
            assert result.exit_code == 0, result.output
            found[role] = out / f"c3po-my-{role}", result.stdout
        return found

    @pytest.fixture(params=list(ROLES))
    def made(self, request, every):
        return request.param, *every[request.param]

    def test_writes_source_contract_entry_point_and_ci(self, made):
        role, folder, said = made
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        module = f"my_{role}"
        workflow = str(Path(".github", "workflows", "ci.yml"))
        assert names == {"pyproject.toml", "README.md", f"{module}.py", f"test_{module}.py", workflow}
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        assert project["entry-points"]["c3po_adaptive"] == {f"my-{role}": module}
        assert f"c3po plugins check {folder / module}.py" in said
        links = dict(re.findall(r"\[(\w+)\]\((.+?)\)", (folder / "README.md").read_text()))
        assert links == {"C3PO": "https://arxiv.org/abs/2504.07964"}, "what a link says is where it leads"

    def test_keeps_its_contract(self, made):
        role, folder, _ = made
        result = call("plugins", "check", folder / f"my_{role}.py")
        assert result.exit_code == 0, result.output
        assert f"{role} my-{role}" in result.stdout
        assert "keeps the contract" in result.stdout

    def test_their_own_tests_pass(self, every):
        """Of all of them in one process, as imports take most of the time."""
        folders = [folder for folder, _ in every.values()]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "-W",
            "error",
            "-W",
            UNDER_O,
            "-p",
            "no:cacheprovider",
            *folders,
        ]
        run = subprocess.run(command, cwd=folders[0].parent, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout
        assert all(re.search(rf"^PASSED .*test_my_{role}\.py", run.stdout, re.MULTILINE) for role in ROLES)

    def test_uses_public_names_alone(self, made):
        role, folder, _ = made
        tree = ast.parse((folder / f"my_{role}.py").read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {name for name in imported if name.startswith("c3po_adaptive")} == {"c3po_adaptive"}

    def test_an_answerer_says_which_neighbours_it_used(self, every):
        registry, asked = new_registry(), toy_questions(3, "asked")
        registry.load_file(every["answerer"][0] / "my_answerer.py")
        context = toy_context()
        answers = registry.create("answerer", "my-answerer").prepare(context).answer(asked)
        used = [[(q.id, similarity) for q, similarity in near] for near in context.nearest(asked)]
        assert all(used)
        assert [[(name, similarity) for name, similarity, _ in a.neighbours] for a in answers] == used
        assert all(sum(weight for *_, weight in a.neighbours) == pytest.approx(1) for a in answers)

    def test_does_not_write_over_a_folder(self, made):
        role, folder, _ = made
        result = call("plugins", "new", f"my-{role}", "--role", role, "--out", folder)
        assert result.exit_code == 1
        assert "exists; name another" in result.output

    @pytest.mark.parametrize(("name", "role", "said"), [
        ("MyMethod", "optimizer", "kebab case, such as my-optimizer"),
        ("ngd", "optimizer", "no optimizer has yet"),
        ("random", "optimizer", "that nothing has in Python"),
        ("scored-layers", "selector", "take my-scored-layers"),
        ("mine", "optimiser", "did you mean 'optimizer'"),
    ])  # fmt: skip
    def test_refuses_names_that_cannot_be(self, tmp_path, name, role, said):
        result = call("plugins", "new", name, "--role", role, "--out", tmp_path / "new")
        assert result.exit_code == 1
        assert said in result.output
        assert not list(tmp_path.iterdir())


def test_a_rule_is_named_as_those_of_the_core(tmp_path):
    model, out = write_tiny_checkpoint(tmp_path / "model", "olmoe"), tmp_path / "mine"
    assert call("plugins", "new", "my-rule", "--role", "rule", "--out", out).exit_code == 0
    named = ["--plugin", out / "my_rule.py", "--rule", "my-rule:2@last-1"]
    done = call("answer", "Which object can float?", "--model", model, "--json", "--tokens", 3, *named)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rule"] == "my-rule:2@last-1"
    readme = (out / "README.md").read_text()
    assert "--rule my-rule" in readme and "--arm" not in readme
    listed = call("plugins", "list", "--plugin", out / "my_rule.py").stdout
    assert "my-rule" in listed and "temperature" in listed


@pytest.mark.parametrize("name", ["x" * 300, "my-" * 2000 + "x", "dangling", "loop", "folder", "file"])
def test_new_plugins_of_names_that_no_file_can_have(odd, name):  # noqa: F811
    before = sorted(p.name for p in odd.iterdir())
    assert command("plugins", "new", name, "--role", "optimizer") == 1
    assert command("plugins", "new", "my-own", "--role", "optimizer", "--out", name) == 1
    assert command("plugins", "new", "my-own", "--role", "optimizer", "--out", f"{'x' * 300}/{name}") == 1
    assert sorted(p.name for p in odd.iterdir()) == before


def test_a_new_plugin_whose_test_would_have_too_long_a_name(odd):  # noqa: F811
    assert command("plugins", "new", "x" * 250, "--role", "optimizer") == 1
    assert not [path for path in odd.iterdir() if "xxx" in path.name or path.name.startswith(".plugin")]
