"""Texts of ours that people may edit: the last line of each says what it is, and by a hash whether anybody did."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from .files import check_own, write_text

EXPLANATION = "explanation"
"""The kind of pages that show how one text was re-mixed."""
_MARK = "<!-- c3po_adaptive wrote this "


def with_checksum(text: str, kind: str) -> str:
    """A text of Markdown or HTML with such a line, which neither shows.

    Args:
        text: whatever it is.
        kind: what it is, in one word: another is not replaced by it.
    """
    text = f"{text.rstrip()}\n"
    found = sha256(f"{kind}\n{text}".encode(errors="surrogatepass")).hexdigest()
    return f"{text}{_MARK}{kind}: {found} -->\n"


def is_unedited(path: Path, kind: str) -> bool:
    """Whether a file is a text of that kind, as ``with_checksum`` made it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # no such file, or no text
        return False
    return text == with_checksum(text.rpartition(_MARK)[0], kind)


def write_page(path: Path | str, page: str, kind: str) -> None:
    """Write a page, whole or not at all, so that ``check_page`` knows it.

    Raises:
        DataError: the disk refuses it, or something else than such a page lies there.
    """
    check_page(path, kind)
    write_text(path, with_checksum(page, kind))


def check_page(path: Path | str, kind: str) -> None:
    """Refuse to write a page where something else lies: a page of another kind, or one that a person altered.

    Raises:
        DataError: with where.
    """
    check_own(path, lambda there: is_unedited(there, kind), f"a page (of kind {kind})")
