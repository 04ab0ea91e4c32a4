"""Which choice a generated text is: its text as a whole, or a letter."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from ..types import NO_CHOICE

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
LETTER = re.compile(r"(?<![^\W_])[A-Z](?![^\W_])")


def matched(text: str, choices: Sequence[str]) -> int:
    """The choice that a text equals (exact match), ``NO_CHOICE`` if it equals none.

    Case, punctuation, articles and white space do not count, as in SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250);
    where two choices differ in these alone, as 5 and -5, case and white space do not count.
    """
    bare = [_bare(choice) for choice in choices]
    fold = _bare if all(bare) and len(set(bare)) == len(bare) else _folded
    folded, said = [fold(choice) for choice in choices], fold(text)
    return folded.index(said) if said in folded else NO_CHOICE


def lettered(text: str, choices: int) -> int:
    """The choice of the first letter among those of the choices that stands alone in a text; ``NO_CHOICE`` without."""
    named = (string.ascii_uppercase.index(letter) for letter in LETTER.findall(text))
    return next((choice for choice in named if choice < choices), NO_CHOICE)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _bare(text: str) -> str:
    return " ".join(ARTICLES.sub(" ", text.casefold().translate(PUNCTUATION)).split())
