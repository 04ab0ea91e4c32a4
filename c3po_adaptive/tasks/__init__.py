"""Questions and the formats they are asked in."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..types import Question
from .formats import Cloze, Format, Letter, Rendered, description, encode, format_by_name, raw_text
from .hub import load_dataset_questions
from .loaders import DEMO_SPLITS, demo_questions, load_questions

__all__ = [
    "Cloze",
    "Format",
    "Letter",
    "Rendered",
    "demo_questions",
    "description",
    "encode",
    "format_by_name",
    "load_dataset_questions",
    "load_questions",
    "questions",
    "raw_text",
]


def questions(source: str | Path, *, split: str | None = None, limit: int | None = None) -> list[Question]:
    """Questions from wherever they are: the one entry for the command line and configurations.

    Args:
        source: ``"demo"``; a JSON or JSONL file; a benchmark (``"mmlu"``), a folder or a hub id of the ``datasets``
            library.
        split: which split; files and folders may leave it out, the others may not.
        limit: at most that many, spread over the source (see ``load_questions``).
    """
    if str(source) == "demo":
        if split is None:
            raise DataError(f"demo: expected a split, one of {', '.join(DEMO_SPLITS)}; got none.")
        return demo_questions(split, limit=limit)
    path = Path(source)
    if path.is_file() or path.suffix in (".json", ".jsonl"):
        return load_questions(path, split=split, limit=limit)
    return load_dataset_questions(source, split=split, limit=limit)
