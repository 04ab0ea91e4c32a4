"""The command that mends a model's routers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from c3po_adaptive.cli import PATH, AsJson, Format, LoadOptions, NamedModel, clear_errors, print_json, say


def repair(
    which: NamedModel,
    references: Annotated[
        str, typer.Option("--references", help="Labeled questions: a file, a folder, a benchmark, or a reference set.")
    ],
    out: Annotated[Path, typer.Option("--out", **PATH, help="A new folder for the mended model.")],
    *,
    by: Annotated[
        Literal["regression", "tuning"],
        typer.Option(help="In closed form, or by training the routers by gradient."),
    ] = "regression",
    limit: Annotated[int | None, typer.Option(min=20, help="So many references, spread over the kinds.")] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Write it, too, where it does not help on references left out.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of which references are left out together.")] = 0,
    format: Format = "cloze",
    how: LoadOptions,
    as_json: AsJson = False,
) -> None:
    """A copy of a model whose routers labeled questions have mended: a stock checkpoint, at no cost a question.

    What it gains is told on references that were left out, fold by fold; where that is nothing, nothing is written.
    """
    model, _ = which.then()
    with clear_errors():
        from .written import write_repaired

        told = write_repaired(
            lambda: how.load(model),
            references,
            out,
            by=by,
            limit=limit,
            anyway=anyway,
            seed=seed,
            format=format,
            tell=partial(say, err=True),
        )
        if as_json:
            print_json(told)
            return
        say(f"Wrote {out}. {told['sentence']}")
