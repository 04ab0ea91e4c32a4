"""The best try of each rival, and what is asked of a model next, from ``studies/``: ``python -m rivals.choose RUN …
--questions FILE --out FOLDER``, with the folder of a run of ``merged.yaml``, or of several, each of some of its arms.

As ``merged.choose``, with controls of each rival that was chosen: shuffled labels for what learns from labels, as many
random neighbours for what looks at neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from merged.choose import asked_next as asked_of_arms
from merged.choose import read_several, settings, write_chosen

from c3po_adaptive.cli.terminal import clear_errors

LABELS, NEIGHBOURS = "shuffled labels", "random neighbours"
CONTROLS = {
    "roma": (LABELS, NEIGHBOURS),
    "epo": (LABELS,),
    "r2t2": (LABELS, NEIGHBOURS),
    "knn-moe": (LABELS, NEIGHBOURS),
    "steermoe": (LABELS,),
    "cor": (LABELS,),
}
"""Of what learns from references. Those that learn from nothing have none."""
LOOKED_UP = 3
"""References that ``knn-moe`` looks up in each layer, unless told otherwise: its memory is of all."""
app = typer.Typer(no_args_is_help=True)


def asked_next(config: Mapping[str, Any], chosen: Mapping[str, str], questions: str) -> dict[str, Any]:
    """The configuration of a run over other questions, with the controls of each rival.

    Args:
        config: of the tries.
        chosen: setting by arm.
        questions: a file.
    """
    asked = asked_of_arms(config, chosen, questions)
    arms = {}
    for name, arm in asked["arms"].items():
        arms[name] = arm
        arms |= {f"{name}, {what}": control_of(name, arm, what) for what in CONTROLS.get(name, ())}
    return {**asked, "arms": arms, "compare": []}


def control_of(rival: str, arm: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The same with shuffled labels, or with as many neighbours drawn at random."""
    if what == LABELS:
        return {**arm, "labels": "shuffled", "control_of": [rival]}
    optimizer = arm["optimizer"]
    settings_of = optimizer if isinstance(optimizer, Mapping) else {}
    k = settings_of.get("k", LOOKED_UP) if rival == "knn-moe" else arm["retriever"]["k"]
    return {**arm, "retriever": {"name": "random", "k": k}, "control_of": [rival]}


@app.command()
@clear_errors()
def choose(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of merged.yaml.")],
    questions: Annotated[str, typer.Option(help="What the chosen rivals are asked.")],
    out: Annotated[Path, typer.Option(help="A folder: test.yaml, tries.json.")],
) -> None:
    """Choose each rival's try by accuracy, then loss, and write the configuration that asks the chosen ones."""
    config, found = read_several(runs)
    write_chosen(out, asked_next(config, settings(found), questions), found)


if __name__ == "__main__":
    app()
