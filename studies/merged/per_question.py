"""Is it per question, or per kind? From ``studies/``: ``python -m merged.per_question RUN/test.yaml --pool FOLDER --out
FOLDER`` writes three configurations of arms as they were chosen, with the questions and references that they need.

- ``varied``: a kind is what came from one data set, of which most hold several tasks: one change has to serve all.
- ``between``: questions of kinds of which there are no references.
- ``stream``: kinds come one after the other: of a third of them five references are there, of the others forty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from c3po_bed import KINDS, SIBLINGS

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks import questions
from c3po_adaptive.types import Question

from .fresh import kinds_of, last_of, write

EACH, FIRST, BETWEEN, REFERENCES, FEW, THIRDS = 10, 10, 24, 40, 5, 3
"""Questions a kind, after the last ten, which the protocol's part asks, and at most of one without references;
references a kind, and of one that is new."""
ASKED = ("base", "each", "one a cluster")
TOLD = "one a kind, told"
ARMS = {
    "varied": (*ASKED, "nearest", TOLD),
    "between": (*ASKED, "nearest", "one for all"),
    "stream": (*ASKED, TOLD, "router tuning"),
}
app = typer.Typer(no_args_is_help=True)


def known(kind: str, pool: Path, number: int) -> list[Question]:
    """So many references of a kind."""
    return [replace(q, subject=kind) for q in questions(pool / f"{kind}.references.jsonl", limit=number)]


def several_answers(asked: Sequence[Question]) -> bool:
    """Whether not all of them have the same right answer, which a change could favor whatever it knows."""
    return len({q.choices[q.answer or 0] for q in asked}) > 1


def by_source(asked: Iterable[Question]) -> list[Question]:
    """With the data set that a question came from as its kind."""
    return [replace(q, subject=KINDS[q.subject].source.name) for q in asked]


def arms_of(config: Mapping[str, Any], names: Sequence[str], datasets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A configuration with some arms, on other data sets."""
    arms = {name: config["arms"][name] for name in names}
    return {**config, "datasets": list(datasets), "arms": arms, "headline": "each", "compare": []}


@app.command()
@clear_errors()
def per_question(
    chosen: Annotated[Path, typer.Argument(help="test.yaml, as merged.choose wrote it.")],
    pool: Annotated[Path, typer.Option(help="Folder with KIND.fresh.jsonl and KIND.references.jsonl.")],
    out: Annotated[Path, typer.Option(help="A folder: varied.yaml, between.yaml, stream.yaml, and their files.")],
) -> None:
    """Write what is asked to tell a question's own change from its kind's."""
    config = yaml.safe_load(chosen.read_text(encoding="utf-8"))
    kinds = kinds_of("fitted")

    def dataset(name: str, asked: Iterable[Question], references: Iterable[Question]) -> dict[str, Any]:
        files = {}
        for part, rows in (("questions", asked), ("references", references)):
            files[part] = out / f"{name}.{part}.jsonl"
            write(rows, files[part])
        return {"name": name, "questions": str(files["questions"]), "references": [str(files["references"])]}

    every = {kind: last_of(kind, pool, EACH, before=FIRST) for kind in kinds}
    asked = {kind: several for kind, several in every.items() if several_answers(several)}
    labeled = {kind: known(kind, pool, REFERENCES) for kind in kinds}
    there = [kind for kind in SIBLINGS if (pool / f"{kind}.fresh.jsonl").is_file()]
    siblings = [last_of(kind, pool, min(BETWEEN, len(questions(pool / f"{kind}.fresh.jsonl")))) for kind in there]
    varied = dataset("varied", by_source(_all(asked.values())), by_source(_all(labeled.values())))
    between = dataset("between", _all(filter(several_answers, siblings)), _all(labeled.values()))
    stream = []
    for part in range(THIRDS):
        new = kinds[part::THIRDS]
        few = [labeled[kind][: FEW if kind in new else REFERENCES] for kind in kinds]
        stream.append(dataset(f"stream-{part}", _all(asked.get(kind, ()) for kind in new), _all(few)))
    for name, datasets in (("varied", [varied]), ("between", [between]), ("stream", stream)):
        told = arms_of(config, ARMS[name], datasets)
        write_text(out / f"{name}.yaml", yaml.safe_dump(told, sort_keys=False, width=1000))
        typer.echo(f"{out / name}.yaml: {len(ARMS[name])} arms, {len(datasets)} data sets")


def _all(parts: Iterable[Sequence[Question]]) -> list[Question]:
    return [question for part in parts for question in part]


if __name__ == "__main__":
    app()
