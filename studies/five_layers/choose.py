"""The best try of each way to take five layers, and what is asked of a model next, from ``studies/``: ``python -m
five_layers.choose RUN --questions FILE --out FOLDER``, with the folder of a run of ``tries.yaml``.

Beside the ways themselves: the fixed five that did best; of each way that chooses for a question the five layers that
it took most often, the same for all; and controls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from merged.choose import APART, Try, best, chosen_arms, order, read_tries, settings, write_chosen
from merged.choose import CONTROLS as EACHS_CONTROLS

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records

FIVE = 5
PER_QUESTION = ("five chosen", "five agreed", "five attributed", "five by margin")
FIXED = ("first five", "spread five", "last five")
BEST_FIXED, FOR_ALL = "best fixed five", "the same for all"
CONTROLLED = ("five chosen", "five attributed")
"""Ways that are asked again with shuffled labels, and with random references weighed alike."""
app = typer.Typer(no_args_is_help=True)


def asked_next(
    config: Mapping[str, Any],
    found: Mapping[str, Sequence[Try]],
    most: Mapping[str, Sequence[int]],
    questions: str,
) -> dict[str, Any]:
    """The configuration of a run over other questions.

    Args:
        config: of the tries.
        found: by way, what came of each of its tries.
        most: by way that chooses for a question, the layers that it took most often.
        questions: a file.
    """
    arms = chosen_arms(config["arms"], settings(found))
    arms[BEST_FIXED] = arms[max(FIXED, key=lambda name: order(best(found[name])))]
    for name in PER_QUESTION:
        always = {"name": "fixed", "layers": [*most[name]], "experts": None}
        arms[f"{name}, {FOR_ALL}"] = {**arms[name], "selector": always}
    for name in CONTROLLED:
        for control, other in EACHS_CONTROLS.items():
            arms[control.replace("each", name)] = {**arms[name], **other, "control_of": [name]}
    (dataset,) = config["datasets"]
    asked = {**dataset, "questions": questions, "split": None, "limit": None}
    return {**config, "datasets": [asked], "arms": arms, "compare": []}


def most_often(records: Sequence[AnswerRecord], found: Mapping[str, Sequence[Try]]) -> dict[str, list[int]]:
    """Of each way that chooses for a question, at its best setting, the five layers that it took most often; of equals
    the lower ones.
    """
    return {name: _most_taken(records, f"{name}{APART}{best(found[name])['setting']}") for name in PER_QUESTION}


def _most_taken(records: Sequence[AnswerRecord], arm: str) -> list[int]:
    taken = Counter(layer for record in records if record.arm == arm for layer in record.layers)
    return sorted(sorted(taken, key=lambda layer: (-taken[layer], layer))[:FIVE])


@app.command()
@clear_errors()
def choose(
    run: Annotated[Path, typer.Argument(help="Folder of a run of tries.yaml.")],
    questions: Annotated[str, typer.Option(help="What the chosen ways are asked.")],
    out: Annotated[Path, typer.Option(help="A folder: test.yaml, tries.json.")],
) -> None:
    """Choose each way's try by accuracy, then loss, and write the configuration that asks the chosen ones."""
    config, found = read_tries(run)
    most = most_often(read_records(run, AnswerRecord), found)
    write_chosen(out, asked_next(config, found, most, questions), found)


if __name__ == "__main__":
    app()
