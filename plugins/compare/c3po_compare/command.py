"""``c3po compare``: runs held against a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive.cli import PATH, AsJson, clear_errors, print_json, print_table, say


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS...", help="Folders of finished runs, or files of kept answers; NAME=RUN names the model."
        ),
    ],
    protocol: Annotated[
        Path, typer.Option(help="YAML: what is compared, over which unit, by which tests; docs/howto/study.md has one.")
    ],
    out: Annotated[
        Path | None, typer.Option(**PATH, help="Folder for summary.json, comparisons.md and the pictures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the comparisons that a protocol names, of any number of runs: tests, Holm families, verdicts, pictures."""
    with clear_errors():
        from .compared import compare as compared
        from .compared import table_of

        found = compared(runs, protocol, out)
        if as_json:
            print_json(found)
            return
        table = table_of(found)
        print_table(table.columns, table.rows)
        for sentence in table.sentences:
            say(sentence)
