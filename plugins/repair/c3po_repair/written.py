"""A mended model as a stock checkpoint, with what it gains beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from c3po_adaptive import (
    DataError,
    Format,
    Question,
    RoutedModel,
    as_format,
    bar,
    check_room,
    labeled_questions,
    new_checkpoint,
)

from .left_out import Repair, answered, once
from .mend import repair
from .tuned import tuned

SAID = "repair.json"
SAMPLE = 8
"""References that are answered to tell how long it takes."""
TAKES = {"regression": 6, "tuning": 15}
"""Answers of the model as it is that a reference takes about as long as."""


def write_repaired(
    load: Callable[[], RoutedModel],
    source: str,
    out: Path,
    *,
    by: str = "regression",
    limit: int | None = None,
    anyway: bool = False,
    seed: int = 0,
    format: str = "cloze",
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Mend a model by the references of a source, and write it if that helps; what ``repair.json`` says.

    Args:
        load: gives the model, once all else that can be refused was looked at.
        source: of labeled questions, or the folder of a reference set.
        out: a new folder.
        by: ``regression`` or ``tuning``.
        limit: so many of the references, spread over the kinds.
        anyway: write it, too, where it does not help.
        seed: of which references are left out together.
        format: how they are put.
        tell: takes what is to be known beforehand, a line at a time.

    Raises:
        DataError: it does not help on references that were left out; or as ``repair`` raises it.
    """
    put = as_format(format)
    questions, again = once(labeled_questions(source, limit=limit), source)
    if again:
        tell(again)
    model = load()
    check_room(model, out)
    tell(_forecast(model, questions, put, by))
    if by == "tuning":
        found = tuned(model, questions, format=put, seed=seed)
    else:
        found = repair(model, questions, format=put, seed=seed, progress=bar)
    told = _told(model, found, by, source) | {"counted_once": again}
    if not (found.helps or anyway):
        raise DataError(
            f"Expected routers that answer references better which they were not mended by, got: {told['sentence']} "
            f"Nothing was written to {out}; label more questions, leave the model as it is, or write it all the same "
            "with --anyway."
        )
    with new_checkpoint(found.model, out) as writing:
        (writing / SAID).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return told


def _forecast(model: RoutedModel, questions: Sequence[Question], format: Format, by: str) -> str:
    """About how long it takes, by how long the first answers did."""
    began, some = perf_counter(), questions[:SAMPLE]
    answered(model, [(model, some)], format)
    minutes = (perf_counter() - began) / len(some) * len(questions) * TAKES[by] / 60
    return f"Repair by {len(questions)} references takes about {minutes:.1f} minutes here."


def _told(model: RoutedModel, found: Repair, by: str, source: str) -> dict[str, Any]:
    before, after = (100 * one.right.mean() for one in (found.before, found.after))
    return {
        "sentence": found.sentence,
        "by": by,
        "steps": [dict(step) for step in found.steps],
        "references": len(found.before.right),
        "source": source,
        "before": {"right": before, "loss": float(found.before.loss.mean())},
        "after": {"right": after, "loss": float(found.after.loss.mean())},
        "points": asdict(found.points),
        "nats": asdict(found.nats),
        "helps": found.helps,
        "flops": found.flops,
        "model": model.fingerprint,
        "mended": found.model.fingerprint,
    }
