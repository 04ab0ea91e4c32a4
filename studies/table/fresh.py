"""The questions of the protocol, from ``studies/``: ``python -m table.fresh --pool FOLDER --out FOLDER`` writes a file
of each data set of ``tries.yaml``, and one of their mixture.

Of each kind forty, in turn one of each right answer, of ``KIND.references.jsonl`` but the hundred that studies
learn from, behind those that the second round of ``merged/`` asks.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import typer
import yaml
from merged.fresh import balanced_of, write

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.tasks import questions
from c3po_adaptive.types import Question

BEFORE, EACH, MIXED, REFERENCES = 14, 40, 20, 40
"""Questions of each kind that are passed over, that are asked, and of these in the mixture; its references."""
MIXTURE = "mixture"
TRIES = Path(__file__).with_name("tries.yaml")
app = typer.Typer(no_args_is_help=True)


@cache
def kinds() -> tuple[str, ...]:
    """The six, as ``tries.yaml`` has them."""
    return tuple(dataset["name"] for dataset in yaml.safe_load(TRIES.read_text(encoding="utf-8"))["datasets"])


def fresh_of(kind: str, pool: Path) -> list[Question]:
    """Those of a kind that are asked.

    Raises:
        DataError: there are fewer.
    """
    return balanced_of(kind, pool, EACH, BEFORE)


def known(kind: str, pool: Path) -> list[Question]:
    """A kind's references."""
    return list(questions(pool / f"{kind}.references.jsonl", limit=REFERENCES))


@app.command()
@clear_errors()
def fresh(
    pool: Annotated[Path, typer.Option(help="Folder with KIND.references.jsonl.")],
    out: Annotated[Path, typer.Option(help="A folder: a file of each data set, and of the mixture.")],
) -> None:
    """Write the questions that are asked once."""
    asked = {kind: fresh_of(kind, pool) for kind in kinds()}
    mixed = [question for own in asked.values() for question in own[:MIXED]]
    for name, own in {**asked, MIXTURE: mixed}.items():
        write(own, out / f"{name}.jsonl")
        typer.echo(f"{len(own)} questions: {out / name}.jsonl")


if __name__ == "__main__":
    app()
