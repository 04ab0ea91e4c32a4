"""Blocks of pages, and what running them means.

A Python or YAML block whose first line is a comment with a file's name is that file; any other Python block runs beside
those before it. ``c3po`` commands that end a bash block run in this process, all others in bash. An output block is
what the block before it printed, where ``...`` stands for anything (a line of it for any lines, or none),
numbers with a point may be off in their last digits, and bars may have another length. A block after
``<!-- not run: REASON -->`` is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from markdown_it import MarkdownIt
from typer.testing import CliRunner

from c3po_adaptive.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
MARK = re.compile(r"<!-- not run: (\S.*\S) -->")
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\n")
NUMBER = re.compile(r"[-+−]?\d+\.\d+")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: what it is in.
        text: what it holds.
        line: of the page, where it begins.
        reason: why it is not run; "" if it is.
    """

    language: str
    text: str
    line: int
    reason: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """Those of a page, from the top; not those that Sphinx writes."""
    reason = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block" and (found := MARK.fullmatch(token.content.strip())):
            reason = found[1]
        elif token.type == "fence" and not token.info.startswith("{"):
            assert token.map is not None
            yield Block(token.info.strip(), token.content, token.map[0] + 1, reason)
            reason = ""


def run(page: Path) -> int:
    """Run a page's blocks in the current folder; how many were.

    Raises:
        AssertionError: a command ends badly, or something else is printed.
    """
    names: dict[str, object] = {"__name__": "__main__"}
    printed, ran = None, 0
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}, line {block.line}"
        if block.reason:
            printed = None
            continue
        if named := FILE.match(block.text):
            Path(named[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(named[1]).write_text(block.text, encoding="utf-8")
            printed = None
        elif block.language == "python":
            printed = _python(block, page, names)
        elif block.language == "bash":
            printed = _commands(block.text, where)
        elif block.language == "output":
            assert printed is not None, f"{where}: nothing was run that this is the output of"
            check_output(block.text, printed, where)
        else:
            raise AssertionError(f"{where}: a block in {block.language or 'no language'} is neither run nor marked")
        ran += 1
    return ran


def _python(block: Block, page: Path, names: dict[str, object]) -> str:
    code = compile("\n" * block.line + block.text, str(page), "exec")  # so that tracebacks show the page's lines
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    return printed.getvalue()


def _commands(text: str, where: str) -> str:
    """What is printed; in no new process, which would import everything anew, where there is no need of one."""
    lines = text.replace("\\\n", " ").replace(" && c3po ", "\nc3po ").splitlines()
    own = list(takewhile(_is_own, reversed(lines)))
    before = lines[: len(lines) - len(own)]
    printed = [_bash("\n".join(before), where)] if before else []
    for line in reversed(own):
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{where} ended with {done.exit_code}:\n{done.output}{done.exception or ''}"
        printed.append(done.stdout)
    return "".join(printed)


def _is_own(line: str) -> bool:
    return line.startswith("c3po ") and not {">", "|", "&&"} & {*shlex.split(line)}


def _bash(text: str, where: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def check_output(wanted: str, got: str, where: str) -> None:
    """Whether what was printed is what the page shows.

    Raises:
        AssertionError: it is not.
    """
    found = re.fullmatch(_pattern(wanted), got.strip(), re.DOTALL)
    assert found, f"{where}: expected\n{wanted}\ngot\n{got}"
    shown = NUMBER.findall(wanted)
    for one, other in zip(shown, found.groups(), strict=True):
        last = 10.0 ** -len(one.partition(".")[2])
        a, b = (float(x.replace("−", "-")) for x in (one, other))
        assert abs(a - b) <= max(2.01 * last, 0.03 * abs(a)), f"{where}: expected {one}, got {other} in\n{got}"


def _pattern(wanted: str) -> str:
    """Of text with numbers, bars, any blank and ``...``."""
    parts = re.split(rf"(\n\.\.\.(?=\n|$)|{NUMBER.pattern}|█+|\s+|\.\.\.)", wanted.strip())
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if NUMBER.fullmatch(part):
        return f"({NUMBER.pattern})"
    if part.startswith("█"):
        return "█+"
    if part == "\n...":
        return r"(?:\n[^\n]*)*?"
    return ".*?" if part == "..." else r"\s+" if part.isspace() else re.escape(part)
