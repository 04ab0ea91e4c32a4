"""Where commands write to: no empty name, and no report of two runs in a project, a home or at the root."""

import pytest
import typer
from hostile.doors import untouched
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.errors import DataError
from c3po_adaptive.study.comparison.two_runs import compare_runs


def commands(group, *names):
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        yield from commands(command, *names, name) if hasattr(command, "commands") else [([*names, name], command)]


WRITING = [
    (words, option.opts[0])
    for words, command in commands(typer.main.get_command(app))
    for option in command.params
    if option.name in ("out", "html")
]


def test_commands_are_found():
    assert len(WRITING) >= 11


@pytest.mark.parametrize(("words", "option"), WRITING, ids=str)
def test_an_empty_name_is_no_folder(words, option):
    done = CliRunner().invoke(app, [*words, option, ""])
    assert done.exit_code == 2
    assert "expected a path, got an empty one" in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", [".git", "pyproject.toml"])
def test_the_report_of_two_in_a_project(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with untouched(tmp_path), pytest.raises(DataError, match="which is a project"):
        compare_runs(tmp_path / "A", tmp_path / "B", tmp_path)
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize(("name", "said"), [
    ("~", "which is your home"), ("/", "which is the root"), ("", "got an empty name"), ("file", "the file .* is none"),
    ("dangling", "a link to nothing"), ("a\0b", "null"),
])  # fmt: skip
def test_the_report_of_two_where_it_cannot_be(tmp_path, monkeypatch, name, said):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    with untouched(tmp_path), pytest.raises(DataError, match=f"Expected a folder .*{said}"):
        compare_runs(
            tmp_path / "A", tmp_path / "B", name if not name or name == "a\0b" else tmp_path / name.replace("~", "")
        )
    assert len([*tmp_path.iterdir()]) == 2
