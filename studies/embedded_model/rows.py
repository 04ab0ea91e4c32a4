"""What experts learn from: questions of a family with their right answers, and other text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c3po_bed import EXPERTS, FAMILIES, GENERAL

from c3po_adaptive.errors import DataError
from c3po_adaptive.tasks.formats import Cloze
from c3po_adaptive.tasks.question_files import load_questions

from . import corpus
from .apart import Row

FAMILY_ROWS, WORDS = 660, 60  # of a family at most, and of a question
TEXT_ROWS, TEXT_LENGTH = 300, 96
LONGEST = 1 << 12


def of_families(folder: Path, tokenizer: Any, seed: int) -> list[Row]:
    """Rows of every family from ``KIND.train.jsonl`` in a folder, a family's kinds in equal parts as far as they go.

    Raises:
        DataError: a kind that an expert learns has no file there.
    """
    found = []
    for expert, family in enumerate(FAMILIES.values()):
        most = FAMILY_ROWS // len(family.learned)
        for kind in family.learned:
            path = folder / f"{kind}.train.jsonl"
            if not path.is_file():
                raise DataError(f"Expected the questions that an expert learns from in {path}, found none.")
            short = [q for q in load_questions(path) if len(q.question.split()) <= WORDS]
            for question in random.Random(f"{seed} {kind}").sample(short, min(most, len(short))):
                prompt = Cloze().prompt(question, tokenizer, LONGEST)
                answer = prompt.options[question.answer or 0]
                found.append(Row((*prompt.ids, *answer), len(prompt.ids), expert, kind))
    return found


def of_text(tokenizer: Any, packages: Sequence[str], seed: int) -> list[Row]:
    """Rows of documentation, for the expert of all other text; the loss is on every token."""
    texts = corpus.pack(corpus.documentation(tuple(packages)), tokenizer, TEXT_LENGTH, TEXT_ROWS, seed)
    return [Row(tuple(ids), 1, EXPERTS.index(GENERAL), GENERAL) for ids in texts.tolist()]
