"""Passages of a user's file: what may stand before a question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c3po_adaptive import DataError, check_text, check_there, description, read_question, read_rows
from c3po_adaptive.errors import disk_says


@dataclass(frozen=True)
class Passage:
    """A text to be told, or a solved example.

    Attributes:
        id: of the line.
        text: what is told.
        about: what it is found by: the text, or the example's question without its answer, as questions are.
    """

    id: str
    text: str
    about: str


def read_passages(path: Path | str) -> list[Passage]:
    """The passages of a file, in order: JSON lines with a ``text`` each, or solved examples (``question``, ``choices``
    and ``answer``); any other file is plain text, with blank lines between passages.

    Raises:
        DataError: no such file, no passage in it, or a line that is none.
    """
    path = Path(path)
    if path.suffix in (".jsonl", ".json"):
        found = [_passage(row, where, f"{path.stem}.{i}") for i, (where, row) in enumerate(read_rows(path))]
    else:
        found = [Passage(f"{path.stem}.{i}", text, text) for i, text in enumerate(_paragraphs(path))]
    if not found:
        raise DataError(f"{path}: expected at least one passage, got none; write some, or leave the file out.")
    return found


def _paragraphs(path: Path) -> list[str]:
    check_there(path, "passages", "check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Expected passages at {path}, got: {disk_says(error)}; give a UTF-8 file.") from None
    return [" ".join(part.split()) for part in text.replace("\r\n", "\n").split("\n\n") if part.strip()]


def _passage(row: Any, where: str, name: str) -> Passage:
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        if not row["text"].strip():
            raise DataError(f"{where}: expected a text to tell, got an empty one; write it, or leave the line out.")
        check_text(row["text"], where)
        return Passage(str(row.get("id", name)), row["text"], row["text"])
    if not (isinstance(row, dict) and {"question", "choices", "answer"} <= row.keys()):
        raise DataError(f"{where}: expected a text, or question, choices and answer, got others; give one of the two.")
    question = read_question(row, where, name)
    if question.answer is None:
        raise DataError(f"{where}: expected an example with its answer, got none; give it, or leave the line out.")
    return Passage(question.id, f"{question.question} {question.choices[question.answer]}", description(question))
