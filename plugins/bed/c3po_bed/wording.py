"""Kinds in other words: the instruction taken off a question, and its text put into another, with other answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TypedDict

import yaml

from c3po_adaptive import DataError, Question


@dataclass(frozen=True)
class Variant:
    """Another way to ask a kind.

    Attributes:
        ask: instruction, with the places of what is a question's own.
        answers: other words for each answer.
    """

    ask: str
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Wording:
    """How a kind is asked.

    Attributes:
        asked: its own instruction, with the places of what is a question's own.
        anew: other ways.
    """

    asked: str
    anew: tuple[Variant, ...] = ()

    def parts(self, question: str) -> dict[str, str] | None:
        """What stands in the places of the instruction; None where the question has another."""
        found = _pattern(self.asked).fullmatch(question)
        return found.groupdict() if found else None


@cache
def wordings() -> Mapping[str, Wording]:
    """Those of ``wordings.yaml``, by kind."""
    read = yaml.safe_load((files(__package__) / "wordings.yaml").read_text(encoding="utf-8"))
    return {kind: _wording(**entry) for kind, entry in read.items()}


def reworded(question: Question) -> Question:
    """The question in one of the other ways to ask its kind, drawn by its id; the way's number is added to the id.

    Args:
        question: of a kind that has others, as the bed asks it.

    Raises:
        DataError: it has another instruction than its kind, or another answer.
    """
    wording = wordings()[question.task]
    parts = wording.parts(question.question)
    if parts is None:
        raise DataError(
            f"Question {question.id!r}: expected the instruction of {question.task}, {wording.asked!r}, got "
            f"{question.question[:80]!r}; take the bed's own questions."
        )
    number = int.from_bytes(sha256(question.id.encode()).digest()[:4], "big") % len(wording.anew)
    variant = wording.anew[number]
    if unknown := [choice for choice in question.choices if choice not in variant.answers]:
        raise DataError(
            f"Question {question.id!r}: expected answers of {question.task}, {', '.join(variant.answers)}; got "
            f"{unknown[0]!r}; take the bed's own questions."
        )
    return replace(
        question,
        id=f"{question.id}/r{number + 1}",
        question=variant.ask.format(**parts),
        choices=tuple(variant.answers[choice] for choice in question.choices),
    )


class _VariantEntry(TypedDict):
    """As the file has it."""

    ask: str
    answers: dict[str, str]


def _wording(asked: str, anew: list[_VariantEntry] | None = None) -> Wording:
    return Wording(asked, tuple(Variant(**variant) for variant in anew or ()))


@cache
def _pattern(asked: str) -> re.Pattern[str]:
    literals_and_places = re.split(r"\{(\w+)\}", asked)
    pieces = [f"(?P<{one}>.+)" if i % 2 else re.escape(one) for i, one in enumerate(literals_and_places)]
    return re.compile("".join(pieces), re.DOTALL)
