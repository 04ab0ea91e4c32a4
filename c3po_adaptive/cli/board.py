"""The command that makes a leader board from the records of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson
from .terminal import clear_errors, print_json, say


def board(
    config: Annotated[Path, typer.Argument(help="YAML: title, runs, pages.")],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; status 1 if a page is not what the records say.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join runs to a leader board: summary, page, picture, and the marked blocks of Markdown pages."""
    with clear_errors():
        from ..study.leader_board import board_summary, read_board, stale_pages, write_board

        parsed, folder = read_board(config), config.parent
        summary = board_summary(parsed, folder)
        if as_json:
            print_json(summary)
        if check:
            stale = stale_pages(parsed, folder, summary)
            for path in stale:
                say(f"not what the records say: {path}", err=True)
            raise typer.Exit(bool(stale))
        for path in write_board(parsed, folder, summary):
            say(f"Written: {path}", err=as_json)
