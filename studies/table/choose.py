"""The best try of each row, and what is asked of a model on fresh questions, from ``studies/``:
``python -m table.choose RUN --questions FOLDER --out FOLDER``, with the folder of a run of ``tries.yaml`` and that of
``table.fresh``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from merged.choose import CONTROLS as EACHS_CONTROLS
from merged.choose import chosen_arms, read_tries, settings, write_chosen

from c3po_adaptive.cli.terminal import clear_errors

from .fresh import MIXTURE

NEAREST = "nearest"
BOUNDED = ("ngd, published", "ngd", NEAREST, "step")
"""Rows that descend: each has its oracle, which takes the same steps at the same rate towards the right answer."""
CONTROLS = {name.replace("each", NEAREST): other for name, other in EACHS_CONTROLS.items()}
"""What they have in the place of what ``nearest`` has."""
app = typer.Typer(no_args_is_help=True)


def asked_next(config: Mapping[str, Any], chosen: Mapping[str, str], questions: Path) -> dict[str, Any]:
    """The configuration of a run over fresh questions: each data set with its own references, and the mixture with all.

    Args:
        config: of the tries.
        chosen: setting by row.
        questions: folder with a file of each data set, and of the mixture.
    """
    arms = chosen_arms(config["arms"], chosen)
    arms |= {name: {**arms[NEAREST], **other, "control_of": [NEAREST]} for name, other in CONTROLS.items()}
    arms |= {f"{name}, oracle": oracle_of(arms[name]) for name in BOUNDED}
    beside = sorted(arms, key=lambda name: [*chosen].index(name.partition(", ")[0]))  # each row beside its own
    every = [reference for dataset in config["datasets"] for reference in dataset["references"]]
    mixed = {**config["datasets"][0], "name": MIXTURE, "references": every}
    asked = [
        {**dataset, "questions": str(questions / f"{dataset['name']}.jsonl"), "split": None, "limit": None}
        for dataset in (*config["datasets"], mixed)
    ]
    return {**config, "datasets": asked, "arms": {name: arms[name] for name in beside}, "compare": []}


def oracle_of(arm: Mapping[str, Any]) -> dict[str, Any]:
    """The same steps, told the right answer."""
    return {**arm, "optimizer": {"name": "oracle", "of": arm["optimizer"]}}


@app.command()
@clear_errors()
def choose(
    run: Annotated[Path, typer.Argument(help="Folder of a run of tries.yaml.")],
    questions: Annotated[Path, typer.Option(help="Folder that table.fresh wrote.")],
    out: Annotated[Path, typer.Option(help="A folder: test.yaml, tries.json.")],
) -> None:
    """Choose each row's try by accuracy over the six data sets, then loss, and write what asks the chosen ones."""
    config, found = read_tries(run)
    write_chosen(out, asked_next(config, settings(found), questions), found)


if __name__ == "__main__":
    app()
