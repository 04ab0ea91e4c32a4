"""Texts without questions: of a file, of standard input, or of a column of a data set."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from os.path import isfile  # of a name that none can have it says no
from pathlib import Path
from typing import Any

from c3po_adaptive import DataError, check_text, read_rows
from c3po_adaptive.errors import suggestion

STDIN, COLUMN = "-", "texts:"
KINDS = (".txt", ".jsonl", ".json")
WRITTEN = 'write a line a text (.txt), or JSON lines with {"text": …} (.jsonl)'


def texts_of(source: str | Path, *, limit: int | None = None) -> list[str]:
    """Texts: a line each of a ``.txt`` file or of standard input (``-``), or the ``text`` of each row of JSON or JSON
    lines, whatever else a row has; or ``texts:OWNER/NAME:COLUMN:SPLIT``, a column of a data set. Empty ones are left
    out.

    Args:
        source: the file, or one of these.
        limit: the first so many.

    Raises:
        DataError: no such file, one of another kind (CSV), a row without a text, or no text at all.
        ArtifactError: of a data set, the library ``datasets`` is not installed.
    """
    found = list(islice(_read(str(source)), limit))
    for place, text in enumerate(found, 1):
        check_text(text, f"{source}, text {place}")
    if not found:
        raise DataError(f"Expected texts in {source}, got none; {WRITTEN}.")
    return found


def holds_texts(source: str | Path) -> bool:
    """Whether a source is texts, by its name, or by a first row that has a text and no question."""
    name, path = str(source), Path(source)
    if name == STDIN or name.startswith(COLUMN) or path.suffix.lower() == ".txt":
        return True
    if path.suffix.lower() not in (".jsonl", ".json") or not isfile(path):
        return False
    _, row = next(iter(read_rows(path)), ("", None))
    return isinstance(row, dict) and "text" in row and "question" not in row


def _read(source: str) -> Iterator[str]:
    if source.startswith(COLUMN):
        from .columns import column

        yield from column(source.removeprefix(COLUMN))
        return
    kind = Path(source).suffix.lower()
    if source != STDIN:
        _check_file(Path(source), kind)
    if kind in (".jsonl", ".json"):
        yield from (_text(row, place) for place, row in read_rows(Path(source)))
        return
    try:
        whole = sys.stdin.read() if source == STDIN else Path(source).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: expected UTF-8 text, got {error}; {WRITTEN}.") from None
    yield from (line for line in whole.split("\n") if line.strip())


def _check_file(path: Path, kind: str) -> None:
    """Refuse one of another kind, and one that is not there, with those that may have been meant."""
    if kind not in KINDS:
        raise DataError(f"Expected texts in {path}, got {kind or 'no'} format; {WRITTEN}.")
    if not isfile(path):
        near = sorted(file.name for file in path.parent.glob("*") if file.suffix.lower() in KINDS)
        hint = suggestion(path.name, near, "check the path.") if near else "check the path."
        raise DataError(f"Expected a file of texts at {path}, but there is none; {hint}")


def _text(row: Any, place: str) -> str:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        got = f"the keys {', '.join(map(str, row))}" if isinstance(row, dict) else type(row).__name__
        raise DataError(f'{place}: expected {{"text": …}}, got {got}; {WRITTEN}.')
    return text
