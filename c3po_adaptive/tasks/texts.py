"""Texts that users pass, in one form, and held against what a tokenizer can take."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError
from ..storage.files import is_file

LONGEST = 1_000_000
"""Characters of a question or a choice: some 200,000 tokens."""


def check_text(text: str, what: str = "the text") -> None:
    """Refuse what no tokenizer takes, or takes minutes for: found out before it is tokenized.

    Args:
        text: of a question, a choice or a prompt.
        what: it is, and where it stands, to begin the message with.

    Raises:
        DataError: it is no text, too long, or holds half of a character.
    """
    if not isinstance(text, str):
        raise DataError(f"{what}: expected a string, got {type(text).__name__}; give a text.")
    if len(text) > LONGEST:
        raise DataError(
            f"{what}: expected at most {LONGEST:,} characters, got {len(text):,}; no model takes as many, shorten it."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what}: expected characters, got half of one (a lone surrogate at {error.start}); remove it."
        ) from None


def listed(texts: str | Iterable[str], what: str = "texts") -> list[str]:
    """One text or many as a list of them.

    Raises:
        DataError: there is none, or something else, such as the name of a file that is there, or a single word that
            ends as such names do.
    """
    if isinstance(texts, str | Path) and is_file(texts):
        hint = f'give what it says: texts_of({str(texts)!r}), and in a shell "$(cat {texts})"'
        raise DataError(f"Expected {what}, got the name of a file; {hint}.")
    if isinstance(texts, str):
        if re.fullmatch(r"\S+\.(txt|jsonl?|csv|parquet)", texts, re.IGNORECASE):
            raise DataError(f"Expected {what}, got {texts!r}, and there is no such file here; correct its path.")
        return [texts]
    if not isinstance(texts, list | tuple) or not texts:
        got = "none" if isinstance(texts, list | tuple) else type(texts).__name__
        raise DataError(f"Expected {what}, one or a list of them, got {got}; give at least one.")
    for text in texts:
        check_text(text)
    return list(texts)
