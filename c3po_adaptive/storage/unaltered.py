"""Texts of ours that people may edit: the last line of each says what it is, and by a hash whether anybody did."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

_SEAL = re.compile(r"(.*\n)<!-- c3po_adaptive wrote this ([\w-]+): ([0-9a-f]{64}) -->\n", re.DOTALL)


def marked(text: str, kind: str) -> str:
    """A text of Markdown or HTML with such a line, which neither shows.

    Args:
        text: whatever it is.
        kind: what it is, in one word: another is not replaced by it.
    """
    text = f"{text.rstrip()}\n"
    return f"{text}<!-- c3po_adaptive wrote this {kind}: {_hash(text, kind)} -->\n"


def is_unaltered(path: Path, kind: str) -> bool:
    """Whether a file is a text of that kind, as ``marked`` made it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # no such file, or no text
        return False
    found = _SEAL.fullmatch(text)
    return found is not None and (found[2], found[3]) == (kind, _hash(found[1], kind))


def _hash(text: str, kind: str) -> str:
    return sha256(f"{kind}\n{text}".encode(errors="surrogatepass")).hexdigest()
