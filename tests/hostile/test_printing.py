"""What commands print: names that others chose cannot command the terminal, nor pass for another line."""

import json
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from routing.toys import reference_set
from typer.testing import CliRunner

from c3po_adaptive import cli
from c3po_adaptive.cli import app
from c3po_adaptive.cli.terminal import clear_errors, print_json, print_table, say
from c3po_adaptive.progress import bar, printable, working
from c3po_adaptive.references.reference_set import ReferenceSet

NASTY = "a\x1b[2J\x1b]0;mine\x07\x9b31m\r\x00\x7f\u202e\u2066\u2028\ud800z"
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]")


def said(*args):
    """Of a command, on both streams."""
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.stdout + done.stderr


def test_what_is_text_stays():
    plain = "Ωmega, naïve, 日本語, \U0001f469\u200d\U0001f52c, [B, L]\n\tx"
    assert printable(plain) == plain
    assert printable("\x1b[31m\x9b\u202e") == "\\u001b[31m\\u009b\\u202e"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_reference_sets(tmp_path, as_json):
    made = reference_set("olmoe")
    text = NASTY.replace("\ud800", "")  # which no file of ours can hold
    ReferenceSet.save(replace(made, card=made.card | {"source": text, "model_name": text}), tmp_path / "set")
    shown = said("refset", "show", tmp_path / "set", *as_json)
    assert not RAW.search(shown)
    assert json.loads(shown)["source"] == text


def test_plugins(tmp_path):
    (tmp_path / "mine.py").write_text(f"raise ValueError({NASTY!a})\n")
    shown = said("plugins", "list", "--plugin", tmp_path / "mine.py")
    assert "error: " in shown and "mine" in shown and not RAW.search(shown)


def test_tables_and_progress(capsys):
    say(NASTY)
    say(NASTY, err=True)
    print_json({NASTY: NASTY})
    print_table([NASTY], [[NASTY], ["[red]x[/red]"]])
    with working(NASTY):
        list(bar([1, 2], lambda item: f"{NASTY}{item}"))
        list(bar([1, 2], NASTY))
    out, err = capsys.readouterr()
    assert not RAW.search(out + err)
    assert "[red]x[/red]" in out


def test_warnings():
    """In a process of their own: pytest keeps them."""
    code = "import warnings\nfrom c3po_adaptive.cli.terminal import clear_errors\nwith clear_errors():\n"
    code += f"    warnings.warn('left out: ' + {NASTY!a})"
    err = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert err.startswith("warning: left out: a\\u001b[2J") and not RAW.search(err) and err.count("\n") == 1


def test_warnings_can_still_be_caught():
    with clear_errors(), pytest.warns(UserWarning, match="left out"):
        warnings.warn("left out", stacklevel=1)


def test_commands_print_at_one_door():
    for path in Path(cli.__file__).parent.glob("*.py"):
        found = re.findall(r"typer\.(?:echo|secho)\(|(?<![\w.])print\(|\.print_json\(", path.read_text())
        assert found == (["typer.echo("] if path.name == "terminal.py" else []), path
