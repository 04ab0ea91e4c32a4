"""The questions of the protocol, from ``studies/``: ``python -m merged.fresh hidden_avg-8-0 --pool FOLDER --out FILE``.

Of each kind of ``arms.yaml`` that a case learned, the last of ``KIND.fresh.jsonl``: ten of all 21, fourteen of the
fifteen of a real merge. No split, expert, study or choice has them. With ``--balanced`` as many of each right answer as
can be, of ``KIND.references.jsonl`` but the hundred that studies learn from: the other file is what was left by splits
that took as many of each, so in most kinds it has few right answers, or one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml
from c3po_bed import LEARNED

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.tasks import questions
from c3po_adaptive.types import Question

from .finetunes import FAMILIES
from .real import merge_named

QUESTIONS, LABELED = 210, 100
"""Asked of a case; and references of a kind that studies have learned from, as ``limit`` draws them."""
ARMS = Path(__file__).with_name("arms.yaml")
app = typer.Typer(no_args_is_help=True)


def kinds_of(case: str) -> list[str]:
    """Kinds of ``arms.yaml`` that the experts of a case learned."""
    (dataset,) = yaml.safe_load(ARMS.read_text(encoding="utf-8"))["datasets"]
    kinds = dataset["questions"].removeprefix("bed:").split(",")
    return [kind for kind in kinds if merge_named(case) is None or LEARNED[kind] in FAMILIES]


def last_of(kind: str, pool: Path, number: int, before: int = 0) -> list[Question]:
    """The last questions of a kind's file, or those before so many.

    Raises:
        DataError: it has fewer.
    """
    every = questions(pool / f"{kind}.fresh.jsonl")
    if len(every) < number + before:
        raise DataError(f"Expected {number + before} questions of {kind} that nobody was asked, got {len(every)}.")
    return [replace(question, subject=kind) for question in every[len(every) - number - before :][:number]]


def balanced_of(kind: str, pool: Path, number: int, before: int = 0) -> list[Question]:
    """Of a kind's references but the hundred that studies learn from, in turn one of each right answer, in the file's
    order; behind so many.

    Raises:
        DataError: there are fewer.
    """
    path = pool / f"{kind}.references.jsonl"
    labeled = {question.id for question in questions(path, limit=LABELED)}
    left = [question for question in questions(path) if question.id not in labeled]
    if len(left) < before + number:
        wanted = before + number
        raise DataError(f"Expected {wanted} references of {kind} beside the {LABELED} learned from, got {len(left)}.")
    turn: Counter[str] = Counter()
    turns = {}
    for question in left:
        right = question.choices[question.answer or 0]
        turns[question.id] = turn[right]
        turn[right] += 1
    return [replace(q, subject=kind) for q in sorted(left, key=lambda q: turns[q.id])[before:][:number]]


def write(asked: Iterable[Question], path: Path) -> None:
    """A file of questions."""
    write_text(path, "".join(json.dumps(question.row()) + "\n" for question in asked))


@app.command()
@clear_errors()
def fresh(
    case: Annotated[str, typer.Argument(help="A case, or fitted.")],
    pool: Annotated[Path, typer.Option(help="Folder with KIND.fresh.jsonl and KIND.references.jsonl.")],
    out: Annotated[Path, typer.Option(help="A file of questions.")],
    balanced: Annotated[bool, typer.Option(help="As many of each right answer, of references not used.")] = False,
    each: Annotated[int | None, typer.Option(min=1, help="So many of each kind; unless said, 210 of all.")] = None,
    before: Annotated[
        int,
        typer.Option(
            min=0, help="Passed over, which others were asked: the last of a file, the first with --balanced."
        ),
    ] = 0,
) -> None:
    """Write the questions that a case is asked once."""
    kinds = kinds_of(case)
    of = balanced_of if balanced else last_of
    asked = [question for kind in kinds for question in of(kind, pool, each or QUESTIONS // len(kinds), before)]
    write(asked, out)
    typer.echo(f"{len(asked)} questions of {len(kinds)} kinds: {','.join(kinds)}")


if __name__ == "__main__":
    app()
