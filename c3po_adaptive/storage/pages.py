"""Pages on disk: how one of ours is known."""

from __future__ import annotations

from pathlib import Path

from .files import check_own

GENERATOR = '<meta name="generator" content="c3po_adaptive">'
"""In the head of every page (``report/base.html.j2``)."""


def check_page(path: Path | str) -> None:
    """Refuse to write a page where something else lies.

    Raises:
        DataError: with where.
    """
    check_own(path, _is_page, "a page")


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(1024)
    except OSError:
        return False
