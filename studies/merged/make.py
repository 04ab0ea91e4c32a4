"""Make a case, from ``studies/``: ``python -m merged.make hidden_avg-8-0 --kinds FOLDER --out MODELS``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.storage.folders import new_folder

from .bed import Bed
from .cases import made, names
from .real import make_merge, merge_named

app = typer.Typer(no_args_is_help=True)


@app.command()
@clear_errors()
def make(
    cases: Annotated[list[str], typer.Argument(help="Names of cases; 'all': every one made of the bed's experts.")],
    kinds: Annotated[Path, typer.Option(help="Folder with KIND.train.jsonl of every learned kind.")],
    out: Annotated[Path, typer.Option(help="A folder a case is written into it.")],
    bed: Annotated[Path | None, typer.Option(help="Another bed's checkpoint; default: the embedded model.")] = None,
) -> None:
    """Write stock checkpoints whose routing is left wrong as people leave it; those that are there are kept, and so are
    the dense models that real merges are made of, in OUT/dense."""
    of = Bed(kinds, bed)
    for name in names() if cases == ["all"] else cases:
        if (out / name / "config.json").is_file():
            continue
        if merge := merge_named(name):
            make_merge(merge, kinds, out / "dense", out / name)
        else:
            model = made(name, of)
            with new_folder(out / name, "folder for a case") as folder:
                model.save_pretrained(folder)
                of.tokenizer.save_pretrained(folder)
        typer.echo(str(out / name))


if __name__ == "__main__":
    app()
