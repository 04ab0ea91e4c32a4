"""Which six kinds are the data sets of the table, from ``studies/``:
``python -m table.gate SOUND.parquet MERGED.parquet --pool FOLDER --out FILE``, with what is kept of both models' runs
of ``gate.yaml``.

Rule (``protocol.md``): of the kinds on which the sound model is shown to be above chance, the merged one is fifteen
points or more below it, and fresh questions have at least half as many different right answers as references, those
where the merge lost most, one a source data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from c3po_bed import KINDS, LEARNED

from c3po_adaptive.analysis import Crossed, over_flips, over_values
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.types import Question

from .fresh import fresh_of, known

SETS, LEAST, SEED = 6, 15.0, 0
app = typer.Typer(no_args_is_help=True)
Figures = dict[str, Any]
"""Of a kind, as the file has them."""


def figures(sound: Sequence[Answered], merged: Sequence[Answered]) -> Figures:
    """How a kind's questions are answered, in percent; how far above chance that is, and what the merge lost, in points
    with 95 % intervals.
    """
    by_id = {r.id: r for r in merged}
    pairs = [(r, by_id[r.id]) for r in sound]
    above = np.array([[r.correct - r.chance] for r, _ in pairs])
    lost = np.array([[float(r.correct) - other.correct] for r, other in pairs])
    right = {name: np.mean([pair[i].correct for pair in pairs]) for i, name in enumerate(("sound", "merged"))}
    return {
        "n": len(pairs),
        "chance": _percent(float(np.mean([r.chance for r, _ in pairs]))),
        **{name: _percent(float(value)) for name, value in right.items()},
        "above chance": _points(above, over_values(above, seed=SEED)),
        "lost": _points(lost, over_flips([lost], seed=SEED)),
    }


def varied(asked: Sequence[Question], references: Sequence[Question]) -> Figures:
    """How many different right answers the fresh questions and the references of a kind have."""
    return {
        name: len({q.choices[q.answer or 0] for q in of}) for name, of in (("fresh", asked), ("references", references))
    }


def chosen(found: Mapping[str, Figures]) -> list[str]:
    """The six, those where the merge lost most first."""
    sets: dict[str, str] = {}
    for kind in sorted(found, key=lambda kind: -found[kind]["lost"][0]):
        if passes(found[kind]):
            sets.setdefault(KINDS[kind].source.name, kind)
    return [*sets.values()][:SETS]


def passes(own: Figures) -> bool:
    """Whether a kind can be one of them."""
    (_, above, _), (lost, *_), answers = own["above chance"], own["lost"], own["right answers"]
    return above > 0 and lost >= LEAST and 2 * answers["fresh"] >= answers["references"]


def _percent(share: float) -> float:
    return round(100 * share, 1)


def _points(each: Any, over: Crossed) -> list[float]:
    return [_percent(value) for value in (float(each.mean()), over.low, over.high)]


@app.command()
@clear_errors()
def gate(
    sound: Annotated[Path, typer.Argument(help="Kept answers of the sound model.")],
    merged: Annotated[Path, typer.Argument(help="Of the merged one.")],
    pool: Annotated[Path, typer.Option(help="Folder with KIND.fresh.jsonl and KIND.references.jsonl.")],
    out: Annotated[Path, typer.Option(help="A JSON file.")],
) -> None:
    """Choose the six data sets by validation questions, and by what fresh questions there are."""
    answers = [read_parquet(path) for path in (sound, merged)]
    found = {}
    for kind in sorted({r.dataset for r in answers[0]}):
        own = figures(*([r for r in of if r.dataset == kind] for of in answers))
        told = {"source": KINDS[kind].source.name, "family": LEARNED[kind]}
        found[kind] = own | {"right answers": varied(fresh_of(kind, pool), known(kind, pool))} | told
    sets = chosen(found)
    write_text(out, json.dumps({"sets": sets, "kinds": found}, indent=1) + "\n")
    typer.echo("\n".join(f"{kind}: {own}{' *' * (kind in sets)}" for kind, own in found.items()))


if __name__ == "__main__":
    app()
