"""What somebody who merges experts writes for each of them: a few prompts of what it is good at."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

from c3po_bed import EXPERTS, FAMILIES, GENERAL

from c3po_adaptive.errors import DataError
from c3po_adaptive.tasks.question_files import load_questions

WORDS = 60  # of a prompt, at most


def prompts(folder: Path, number: int, draw: int) -> dict[str, list[str]]:
    """Positive prompts by expert: questions of its family's train rows as they are asked, and of the last one, other
    text.

    Args:
        folder: with ``KIND.train.jsonl`` of every learned kind.
        number: prompts an expert.
        draw: of prompts.
    """
    drawn = {name: random.Random(f"{draw} {name}") for name in EXPERTS}
    return {name: drawn[name].sample(_texts(folder, name), number) for name in EXPERTS}


def negatives(positive: Mapping[str, Sequence[str]], draw: int) -> dict[str, list[str]]:
    """As many negative prompts by expert: positive ones of others, drawn at random."""
    found = {}
    for name, own in positive.items():
        others = [text for other, texts in positive.items() if other != name for text in texts]
        found[name] = random.Random(f"{draw} not {name}").sample(others, len(own))
    return found


@cache
def _texts(folder: Path, expert: str) -> list[str]:
    """All that an expert's prompts are drawn from."""
    if expert == GENERAL:
        return _paragraphs()
    found = []
    for kind in FAMILIES[expert].learned:
        path = folder / f"{kind}.train.jsonl"
        if not path.is_file():
            raise DataError(f"Expected questions to write prompts of in {path}, found none.")
        found += [q.question for q in load_questions(path) if len(q.question.split()) <= WORDS]
    return [f"Question: {question}\nAnswer:" for question in found]


def _paragraphs() -> list[str]:
    """Of the description of an installed package: text of no family."""
    text = distribution("torch").metadata.get_payload()
    parts = [" ".join(part.split()) for part in str(text).split("\n\n")]
    found = [" ".join(part.split()[:WORDS]) for part in parts if len(part.split()) > 8]
    if len(found) < 32:
        raise DataError(f"Expected 32 paragraphs of other text in torch's description, got {len(found)}.")
    return found
