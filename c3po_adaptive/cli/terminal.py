"""What commands say, and how they end: errors with their message alone, tables, JSON."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand
from typer.models import CommandFunctionType

from ..errors import C3POError
from ..progress import RESUMES, Paused, printable

if TYPE_CHECKING:
    from rich.table import Table

PAUSED = 3  # exit status of a study that has more to do
SHORT, FRAME = 21, 3  # characters of a gain with its interval, which is not broken; and between two columns
INTERRUPTED, TERMINATED = 130, 143  # as shells have them: 128 and the number of the signal


class Once(TyperCommand):
    """A command that does not let the last of several values win in silence, and says what it needs."""

    def collect_usage_pieces(self, context: Any) -> list[str]:
        needed = [one for one in self.params if one.param_type_name == "option" and one.required]
        shown = [f"{one.opts[0]} {one.metavar or one.name.upper()}" for one in needed]
        return super().collect_usage_pieces(context) + shown

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(context).parse_args(list(args))
        for option in order:
            if option.param_type_name == "option" and not option.multiple and order.count(option) > 1:
                context.fail(f"Expected {option.opts[0]} once, got it {order.count(option)} times; give one.")
        try:
            return super().parse_args(context, args)
        except typer.BadParameter as error:
            error.message = error.message or getattr(error.param, "help", "")  # of what is missing, what it is
            raise


class App(typer.Typer):
    """Commands, each of which takes an option once."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        return super().command(name, cls=Once, **settings)


_log = logging.getLogger("c3po_adaptive")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors raised on purpose end the command with their message alone; SIGTERM ends it as Ctrl-C does; warnings are
    one line each."""
    RESUMES.set(False)
    try:
        with _terminable(), _warning_plainly():
            yield
    except C3POError as error:
        _log.debug("", exc_info=error)
        say(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as end:
        say(f"interrupted; the same command {'resumes from here' if RESUMES.get() else 'begins anew'}", err=True)
        raise typer.Exit(TERMINATED if isinstance(end, _Terminated) else INTERRUPTED) from None
    except Paused as pause:
        say("the minutes are over; the same command resumes from here", err=True)
        raise typer.Exit(PAUSED) from pause


@contextmanager
def _warning_plainly() -> Iterator[None]:
    """What libraries and we warn of is said as all else: it may have names from files in it."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *args, **kwargs: f"warning: {printable(message)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the end that a scheduler asks for."""


@contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # no other may set a signal's handler
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)  # None: not of Python


def _terminate(number: int, frame: object) -> None:
    raise _Terminated


@contextmanager
def room_in(out: Path, overwrite: bool) -> Iterator[None]:
    """With ``overwrite`` a run in the folder makes room for the one of the block, when that begins; a person is asked.

    Raises:
        typer.Abort: the answer was no.
    """
    from ..storage.run_folder import REPLACING, is_run

    if overwrite and is_run(out) and sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(f"Delete the run in {out}, with all its answers?", abort=True, err=True)
    token = REPLACING.set(overwrite)
    try:
        yield
    finally:
        REPLACING.reset(token)


def say(text: object, err: bool = False) -> None:
    """Print text, whoever wrote it; the door of all that commands say, with ``print_table``."""
    typer.echo(printable(text), err=err)


def print_json(value: Any) -> None:
    """For programs; whatever else a command has to say, it says on standard error."""
    from pydantic import BaseModel

    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    say(json.dumps(plain, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1) -> None:
    """On the terminal, or whole in a pipe. No word is cut: columns that find no room beside the others stand below
    them, behind the first ``keys`` again."""
    from rich.console import Console

    # In a pipe rich assumes 80 columns.
    console = Console(width=max(80, Console().width) if sys.stdout.isatty() else 220)
    cells = [[printable(cell) for cell in column] for column in zip(columns, *rows, strict=True)]
    keys = min(keys, len(cells) - 1)
    first, left = cells[:keys], cells[keys:]
    while left:
        fitting = (n for n in range(len(left), 1, -1) if sum(map(_least, first + left[:n])) < console.width)
        count = next(fitting, 1)
        console.print(_table(first + left[:count], console.width))
        left = left[count:]


def _least(column: Sequence[str]) -> int:
    """Room for a column, frame included: what is short stays in a line, what is long can be broken between words."""
    from rich.cells import cell_len

    lines = "\n".join(column).split("\n")
    parts = [part for line in lines for part in (line.split() if len(line) > SHORT else [line])]
    return FRAME + max(map(cell_len, parts))


def _table(cells: Sequence[Sequence[str]], room: int) -> Table:
    """Of columns, each with its name first; the wide ones share the room alike."""
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table

    least = [_least(column) for column in cells]
    whole = [FRAME + max(map(cell_len, "\n".join(column).split("\n"))) for column in cells]
    shared = ([max(a, min(b, most)) for a, b in zip(least, whole, strict=True)] for most in range(room, 0, -1))
    widths = next((each for each in shared if sum(each) < room), least)
    table = Table()
    for (name, *_), width in zip(cells, widths, strict=True):
        table.add_column(escape(name), width=width - FRAME)
    for row in zip(*(column[1:] for column in cells), strict=True):
        table.add_row(*map(escape, row))  # [B, L] is a shape, no style
    return table
