"""Fewer tries for the models that come after the first ones, from ``studies/``: ``python -m merged.narrow RUN --out
FILE``, with the folder of a run of ``arms.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.storage.files import write_text

from .choose import APART, PUBLISHED, Try, order, read_tries

KEPT = 2
"""Tries of each arm."""

app = typer.Typer(no_args_is_help=True)


def narrowed(config: Mapping[str, Any], found: Mapping[str, Sequence[Try]]) -> dict[str, Any]:
    """The configuration with the best tries of each arm alone, and with what was published.

    Args:
        config: of all tries.
        found: by arm, what came of each.
    """
    kept = {f"{arm}{APART}{one['setting']}" for arm, of in found.items() for one in sorted(of, key=order)[-KEPT:]}
    arms = {
        name: arm
        for name, arm in config["arms"].items()
        if APART not in name or name in kept or name.endswith(APART + PUBLISHED)
    }
    return {**config, "arms": arms}


@app.command()
@clear_errors()
def narrow(
    run: Annotated[Path, typer.Argument(help="Folder of a run of arms.yaml.")],
    out: Annotated[Path, typer.Option(help="A file: the configuration of the next models' tries.")],
) -> None:
    """Keep the two best tries of each arm, equally many of each."""
    config, found = read_tries(run)
    narrow = narrowed(config, found)
    write_text(out, yaml.safe_dump(narrow, sort_keys=False, width=1000))
    typer.echo(f"{len(narrow['arms'])} of {len(config['arms'])} tries: {out}")


if __name__ == "__main__":
    app()
