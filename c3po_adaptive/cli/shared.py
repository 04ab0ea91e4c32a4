"""What commands share: options, errors that end a command with their message alone, tables, progress."""

from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from ..errors import C3POError, SettingError
from ..progress import Paused, Progress, bar, limited, printable, working
from ..storage.run_folder import COMMAND

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..registry import Registry
    from ..study.executor import Executor

PAUSED = 3  # exit status of a study that has more to do
INTERRUPTED, TERMINATED = 130, 143  # as shells have them: 128 and the number of the signal


def named(path: str | Path) -> Path:
    """A path as options give it; an empty one, which an unset variable leaves, would be the current folder."""
    if not str(path):
        raise typer.BadParameter("expected a path, got an empty one; name one, or . for the current folder.")
    return Path(path)


PATH: dict[str, Any] = {"parser": named, "metavar": "PATH"}
"""How options take a path to write to."""

Out = Annotated[Path, typer.Option("--out", **PATH, help="Folder of the run; an interrupted run there is resumed.")]
Model = Annotated[str, typer.Option("--model", help="smollm2-moe, OLMoE, DeepSeekMoE, a Hub id, or a folder.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: spread over all, disk included.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
Quantize = Annotated[str | None, typer.Option(help="4bit or 8bit: linear layers, by bitsandbytes.")]
Format = Annotated[str, typer.Option(help="cloze or letter.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value, +key.NEW=value or @FILE, over the file; repeatable."),
]
Minutes = Annotated[float | None, typer.Option(help=f"Stop after so many, with status {PAUSED}; again, it resumes.")]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="Where it is computed: here, or on a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else one is started here.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Of Ray, at most; else one a CPU core, or a GPU where that is the device.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="When this run begins, delete the files of the run in --out, and no others; asks on a terminal.",
    ),
]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Run plugins that break their contract, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A plugin file; repeatable.")]


class Commands(TyperGroup):
    """All commands; what is made while one is carried out can say which it was."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        words = shlex.join(["c3po", *args]).encode(errors="replace").decode()  # no file holds half a character
        context = super().make_context(info_name, args, *rest, **extra)
        token = COMMAND.set(words)
        context.call_on_close(lambda: COMMAND.reset(token))
        return context


_log = logging.getLogger("c3po_adaptive")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors raised on purpose end the command with their message alone; SIGTERM ends it as Ctrl-C does; warnings are
    one line each."""
    try:
        with _terminable(), _warning_plainly():
            yield
    except C3POError as error:
        _log.debug("", exc_info=error)
        say(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as end:
        say("interrupted; the same command resumes from here", err=True)
        raise typer.Exit(TERMINATED if isinstance(end, _Terminated) else INTERRUPTED) from None
    except Paused as pause:
        say("the minutes are over; the same command resumes from here", err=True)
        raise typer.Exit(PAUSED) from pause


@contextmanager
def _warning_plainly() -> Iterator[None]:
    """What libraries and we warn of is said as all else: it may have names from files in it."""
    before, warnings.formatwarning = warnings.formatwarning, _plainly
    try:
        yield
    finally:
        warnings.formatwarning = before


def _plainly(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {printable(message)}\n"


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


def registry_with(files: list[Path] | None, *, installed: bool = True) -> Registry:
    """Built-ins, plugins of installed packages, and those of files."""
    from ..registry import new_registry

    registry = new_registry(installed=installed)
    for file in files or []:
        registry.load_file(file)
    return registry


def check_plugins(used: Iterable[tuple[str, Any]], registry: Registry) -> None:
    """Refuse strategies of plugins that break the contract of their role: seconds now, or a model loaded in vain.

    Args:
        used: strategies with their roles.
        registry: knows which of them are built in.

    Raises:
        PluginError: with all that does not hold.
    """
    from ..registry import BUILTIN
    from ..testing.findings import check_contract, parts

    foreign = {entry.cls: entry.plugin for entry in registry.table() if entry.plugin != BUILTIN}
    there = [part for role, strategy in used for part in parts(role, strategy) if type(part[1]) in foreign]
    for role, strategy in {repr(part): part for part in there}.values():
        brought_by = foreign[type(strategy)]
        check_contract(role, strategy, brought_by if brought_by.endswith(".py") else strategy.name)


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


def load_model(name: str, **options: str | None) -> RoutedModel:
    """As ``load_moe_model``; shows that it does."""
    from ..models.loading import load_moe_model

    with working(f"loading {name}"):
        return load_moe_model(name, **options)  # type: ignore[arg-type]


def progress_for(minutes: float | None) -> Progress:
    """A bar, and an end after so many minutes."""
    return bar if minutes is None else limited(bar, minutes)


def say(text: object, err: bool = False) -> None:
    """Print text, whoever wrote it; the door of all that commands say, with ``print_table``."""
    typer.echo(printable(text), err=err)


def print_json(value: Any) -> None:
    """For programs; whatever else a command has to say, it says on standard error."""
    from pydantic import BaseModel

    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    say(json.dumps(plain, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """On the terminal, or whole in a pipe."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*(escape(printable(column)) for column in columns))
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))  # [B, L] is a shape, no style
    # In a pipe rich assumes 80 columns, and cuts names off.
    Console(width=max(80, Console().width) if sys.stdout.isatty() else 220).print(table)


def executor_for(engine: str, address: str | None, workers: int | None) -> Executor:
    """What computes a study's pieces.

    Raises:
        SettingError: an address or a number of workers, and no Ray.
    """
    if engine == "ray":
        from ..study.ray_engine import RayExecutor

        return RayExecutor(address, workers)
    if address is not None or workers is not None:
        raise SettingError("Expected --engine ray beside --address or --workers, got the local engine; add it.")
    from ..study.executor import HERE

    return HERE
