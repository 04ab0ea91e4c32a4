"""Which questions are the same by another id.

Two are the same if their texts and images are, capitals, blanks and ways to encode a letter aside, and their choices
are, in whatever order, or the right choice of the later one is among those of the first: then the label of one gives
the other's answer away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from unicodedata import category, normalize

from ..storage.picture_file import Picture
from ..types import Question

_BEFORE_PUNCTUATION = re.compile(r"\s+(?=[.,;:!?])")


class SameQuestions:
    """An index of questions, in which others that are the same are found.

    Args:
        questions: in order; ``rows`` counts them from 0.

    Attributes:
        row_of: the row of each id.
    """

    def __init__(self, questions: Iterable[Question] = ()) -> None:
        self._by_text: dict[tuple[str, tuple[Picture, ...]], list[int]] = {}
        self._questions: list[Question] = []
        self.row_of: dict[str, int] = {}
        for question in questions:
            self.add(question)

    def add(self, question: Question) -> None:
        """Put one more behind the others."""
        row = len(self._questions)
        self._by_text.setdefault(_text(question), []).append(row)
        self.row_of[question.id] = row
        self._questions.append(question)

    def first(self, question: Question) -> Question | None:
        """The first one that a later question repeats, if any."""
        alike = (self._questions[row] for row in self._by_text.get(_text(question), ()))
        return next((one for one in alike if _same(one, question)), None)

    def rows(self, asked: Question) -> set[int]:
        """Rows of those that have the id of an asked question, or repeat it."""
        alike = self._by_text.get(_text(asked), ())
        named = {self.row_of[asked.id]} if asked.id in self.row_of else set()
        return named | {row for row in alike if _same(asked, self._questions[row])}


def distinct(questions: Iterable[Question]) -> tuple[list[Question], list[tuple[Question, Question]]]:
    """Each question once, as it stands first; and the repeated ones, each with the first that is the same.

    By whatever id, of whatever subject, and even if another choice is said to be right.
    """
    known, once, again = SameQuestions(), list[Question](), list[tuple[Question, Question]]()
    for question in questions:
        before = known.first(question)
        if before is None:
            known.add(question)
            once.append(question)
        else:
            again.append((question, before))
    return once, again


def numbered(questions: Sequence[Question]) -> list[int]:
    """The number of each question, from 0 in order of appearance; repeated ones share theirs."""
    once, again = distinct(questions)
    number = {question.id: row for row, question in enumerate(once)}
    first = {question.id: before.id for question, before in again}
    return [number[first.get(question.id, question.id)] for question in questions]


def again_in_words(again: Sequence[tuple[Question, Question]], what: str, name: str) -> str:
    """A sentence on the repeated questions of ``distinct``.

    Args:
        again: some, each with the first.
        what: they are, such as ``references``.
        name: of where they come from.
    """
    others = sum(_right(question) != _right(before) for question, before in again)
    contradicting = f" ({others} with another answer)" if others else ""
    question, before = (one.id for one in again[0])
    of = f"{name} gives {len(again)} of its {what} again under another id{contradicting}"
    return f"{of}, such as {question!r}, which is {before!r}"


def asked_of(references: Iterable[Question], asked: Sequence[Question]) -> frozenset[str]:
    """Ids of questions, and of the references that are the same by another id."""
    known = SameQuestions(asked)
    same = {one.id for one in references if known.first(one) is not None}
    return frozenset(same.union(question.id for question in asked))


def _text(question: Question) -> tuple[str, tuple[Picture, ...]]:
    return plain(question.question), question.pictures


def _same(first: Question, later: Question) -> bool:
    known = sorted(map(plain, first.choices))
    return sorted(map(plain, later.choices)) == known or _right(later) in known


def _right(question: Question) -> str | None:
    return None if question.answer is None else plain(question.choices[question.answer])


def plain(text: str) -> str:
    """A text without what capitals, blanks, invisible characters and ways to encode a letter say."""
    if not text.isascii():
        text = "".join(letter for letter in normalize("NFC", text) if category(letter) != "Cf")
    return " ".join(_BEFORE_PUNCTUATION.sub("", text.casefold()).split())
