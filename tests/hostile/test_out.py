"""Where commands write to: no empty name."""

import pytest
import typer
from typer.testing import CliRunner

from c3po_adaptive.cli import app


def commands(group, *names):
    """Every command with the words that call it, companions' among them."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield from commands(command, *names, name) if hasattr(command, "commands") else [([*names, name], command)]


WRITING = [
    (words, option.opts[0])
    for words, command in commands(typer.main.get_command(app))
    for option in command.params
    if option.name in ("out", "html")
]


def test_commands_are_found():
    assert {"study", "refset", "demo"} <= {words[0] for words, _ in WRITING}


@pytest.mark.parametrize(("words", "option"), WRITING, ids=str)
def test_an_empty_name_is_no_folder(words, option):
    done = CliRunner().invoke(app, [*words, option, ""])
    assert done.exit_code == 2
    assert "expected a path, got an empty one" in " ".join(done.stderr.split())
