"""Texts without questions, from a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..storage.files import is_file
from .question_files import read_rows
from .sources import texts_brought
from .texts import check_text

STDIN = "-"
WRITTEN = 'write a line a text (.txt), or JSON lines with {"text": …} (.jsonl)'


def texts_of(source: str | Path, *, limit: int | None = None) -> list[str]:
    """Texts: a line each of a ``.txt`` file or of standard input (``-``), or the ``text`` of each row of JSON or JSON
    lines, whatever else a row has; or of a source of texts that a package brings. Empty lines are left out.

    Args:
        source: the file, or ``PREFIX:NAME`` of such a source, as ``plugins/benchmarks`` has columns of data sets.
        limit: the first so many.

    Raises:
        DataError: no such file, one of another kind (CSV), a row without a text, or no text at all.
    """
    if str(source) == STDIN:
        found = [line for line in sys.stdin.read().splitlines() if line.strip()]
    elif (rows := texts_brought(str(source))) is not None:
        found = [_text(row, place) for place, row in islice(rows, limit)]
    else:
        found = list(_read(Path(source)))
    for place, text in enumerate(found, 1):
        check_text(text, f"{source}, text {place}")
    if not found:
        raise DataError(f"Expected texts in {source}, got none; {WRITTEN}.")
    return found[:limit]


def holds_texts(source: str | Path) -> bool:
    """Whether a source is texts, by its name, or by a first row that has a text and no question."""
    path = Path(source)
    if str(source) == STDIN or path.suffix.lower() == ".txt" or texts_brought(str(source)) is not None:
        return True
    if path.suffix.lower() not in (".jsonl", ".json") or not is_file(path):
        return False
    _, row = next(iter(read_rows(path)), ("", None))
    return isinstance(row, dict) and "text" in row and "question" not in row


def _read(path: Path) -> Iterator[str]:
    if path.suffix.lower() in (".jsonl", ".json"):
        for place, row in read_rows(path):
            yield _text(row, place)
        return
    if path.suffix.lower() != ".txt":
        raise DataError(f"Expected texts in {path}, got {path.suffix or 'no'} format; {WRITTEN}.")
    try:
        yield from (line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected UTF-8 text, got {error}; {WRITTEN}.") from None


def _text(row: Any, place: str) -> str:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        got = f"the keys {', '.join(map(str, row))}" if isinstance(row, dict) else type(row).__name__
        raise DataError(f'{place}: expected {{"text": …}}, got {got}; {WRITTEN}.')
    return text
