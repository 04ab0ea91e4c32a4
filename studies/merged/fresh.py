"""The questions of the protocol, from ``studies/``: ``python -m merged.fresh hidden_avg-8-0 --pool FOLDER --out FILE``.

Of each kind of ``arms.yaml`` that a case's experts learned the last of ``KIND.fresh.jsonl``: ten of all 21, fourteen of
the fifteen of a real merge. No split, expert, study or choice has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks.bed import expert_families

from .finetunes import FAMILIES
from .real import merge_named

QUESTIONS = 210
ARMS = Path(__file__).with_name("arms.yaml")
app = typer.Typer(no_args_is_help=True)


def kinds_of(case: str) -> list[str]:
    """Kinds of ``arms.yaml`` that the experts of a case learned."""
    (dataset,) = yaml.safe_load(ARMS.read_text(encoding="utf-8"))["datasets"]
    kinds = dataset["questions"].removeprefix("bed:").split(",")
    return [kind for kind in kinds if merge_named(case) is None or expert_families.LEARNED[kind] in FAMILIES]


def last_of(kind: str, pool: Path, number: int) -> list[str]:
    """The last rows of a kind's file, as they stand there.

    Raises:
        DataError: it has fewer.
    """
    lines = (pool / f"{kind}.fresh.jsonl").read_text(encoding="utf-8").splitlines()
    if len(lines) < number:
        raise DataError(f"Expected {number} questions of {kind} that nobody was asked, got {len(lines)}.")
    return lines[-number:]


@app.command()
@clear_errors()
def fresh(
    case: Annotated[str, typer.Argument(help="A case, or fitted.")],
    pool: Annotated[Path, typer.Option(help="Folder with KIND.fresh.jsonl.")],
    out: Annotated[Path, typer.Option(help="A file of questions.")],
) -> None:
    """Write the questions that a case is asked once."""
    kinds = kinds_of(case)
    rows = [line for kind in kinds for line in last_of(kind, pool, QUESTIONS // len(kinds))]
    write_text(out, "\n".join(rows) + "\n")
    typer.echo(f"{len(rows)} questions of {len(kinds)} kinds: {','.join(kinds)}")


if __name__ == "__main__":
    app()
