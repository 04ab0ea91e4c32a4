"""``c3po``: the command line; a file for each group of commands."""

from __future__ import annotations

import logging
import os

# Threads that wait must not spin: beside another process they would take its cores. Read when a
# numerical library is first loaded, which no module here does before a command runs; who sets it, has it so.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Large tensors in pages of 2 MB: bringing in small ones takes a fifth of a descent's time. Likewise.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Commands show how far they are themselves (progress.py); read when these libraries are first loaded, likewise.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from collections.abc import Callable
from typing import Annotated

import typer

from ..progress import working
from . import answer, demo, explain, models, plugins, refset, runs
from .commands import Commands, Group
from .options import (
    PATH,
    AsJson,
    Dtype,
    Format,
    LoadOptions,
    Minutes,
    ModelOptions,
    Named,
    NamedModel,
    Out,
    Overwrite,
    Picture,
    Plugins,
    Revision,
    Rules,
    Texts,
    folder_name,
    grouped,
    progress_for,
    registry_with,
    rule_of,
)
from .terminal import App, clear_errors, print_json, print_table, room_in, say

__all__ = [
    "PATH",
    "App",
    "AsJson",
    "Dtype",
    "Format",
    "LoadOptions",
    "Minutes",
    "ModelOptions",
    "Named",
    "NamedModel",
    "Out",
    "Overwrite",
    "Picture",
    "Plugins",
    "Revision",
    "Rules",
    "Texts",
    "app",
    "clear_errors",
    "folder_name",
    "grouped",
    "print_json",
    "print_table",
    "progress_for",
    "registry_with",
    "room_in",
    "rule_of",
    "say",
    "working",
]
"""What commands that plugins bring are made of."""

app = App(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        from ..storage.identity import versions

        say(f"c3po_adaptive {versions()['c3po_adaptive'] or 'of no installed package'}")
        raise typer.Exit


@app.callback()
def c3po(
    context: typer.Context,
    asked: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and end.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from, traceback and all.")] = False,
) -> None:
    """Re-mix the expert pathways of frozen Mixture-of-Experts language models at test time."""
    if debug:
        context.call_on_close(_debugging())


def _debugging() -> Callable[[], None]:
    """Log all that we say; what ends that, for who calls commands in one process."""
    log, handler = logging.getLogger("c3po_adaptive"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)

    def end() -> None:
        log.removeHandler(handler)
        log.setLevel(before)

    return end


_COMMANDS: tuple[Callable[..., None], ...] = (
    *(demo.demo, runs.evaluate, runs.report, runs.runs),
    *(answer.answer, explain.explain, models.models),
)
for _command in _COMMANDS:
    app.command()(grouped(_command))
for _name, _group in {"study": runs.study, "refset": refset.app, "plugins": plugins.app}.items():
    app.add_typer(_group, name=_name, cls=Group)
