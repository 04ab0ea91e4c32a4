"""Pages on disk: how one of ours is known."""

from __future__ import annotations

from pathlib import Path

from .files import check_own, write_text
from .unaltered import is_unaltered, marked

EXPLANATION = "explanation"
"""The kind of pages that show how one text was re-mixed."""


def write_page(path: Path | str, page: str, kind: str) -> None:
    """Write a page, whole or not at all, so that ``check_page`` knows it.

    Raises:
        DataError: the disk refuses it, or something else than such a page lies there.
    """
    check_page(path, kind)
    write_text(path, marked(page, kind))


def check_page(path: Path | str, kind: str) -> None:
    """Refuse to write a page where something else lies: a page of another kind, or one that a person altered.

    Raises:
        DataError: with where.
    """
    check_own(path, lambda there: is_unaltered(there, kind), f"a page (of kind {kind})")
