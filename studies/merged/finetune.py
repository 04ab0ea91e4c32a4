"""Make dense models to merge, from ``studies/``: ``python -m merged.finetune slot --kinds FOLDER --out DENSE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive.cli.terminal import clear_errors

from .finetunes import FAMILIES, finetune

app = typer.Typer(no_args_is_help=True)


@app.command()
@clear_errors()
def main(
    kinds: Annotated[Path, typer.Option(help="Folder with KIND.train.jsonl of every learned kind.")],
    out: Annotated[Path, typer.Option(help="A folder a family, and the donor's, are written into it.")],
    families: Annotated[list[str] | None, typer.Argument(help="Names of families; default: all eight.")] = None,
) -> None:
    """Fine-tune the embedded model's dense parent, a model a family; an interrupted training goes on where it was."""
    for folder in finetune(families or FAMILIES, kinds, out):
        typer.echo(str(folder))


if __name__ == "__main__":
    app()
