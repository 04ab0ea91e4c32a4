"""Texts and questions that users pass, in one form, and held against what a tokenizer can take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import DataError, SettingError
from ..types import Question

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
        DataError: there is none, or something else.
    """
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, list | tuple) or not texts:
        got = "none" if isinstance(texts, list | tuple) else type(texts).__name__
        raise DataError(f"Expected {what}, one or a list of them, got {got}; give at least one.")
    for text in texts:
        check_text(text)
    return list(texts)


def as_questions(
    questions: str | Question | Sequence[str | Question], choices: Sequence[str] | Sequence[Sequence[str]] | None
) -> list[Question]:
    """Question records of whatever a user passes."""
    if isinstance(questions, str | Question):
        return as_questions([questions], None if choices is None else [choices])  # type: ignore[list-item]
    each = choices if isinstance(choices, list | tuple) else [choices]
    if texts := [one for one in each if isinstance(one, str)]:
        raise SettingError(f'Expected choices as a list of texts, ["a stone", "a boat"], got the text {texts[0]!r}.')
    if not isinstance(questions, list | tuple) or not isinstance(choices, list | tuple | None):
        raise SettingError(
            f"Expected questions, and choices, as lists, got {type(questions).__name__} and {type(choices).__name__}."
        )
    if choices is None:
        if not all(isinstance(q, Question) for q in questions):
            raise SettingError(
                "Expected choices beside question texts, got none; pass choices=[…] or Question records."
            )
        return list(questions)
    if len(choices) != len(questions):
        raise SettingError(f"Expected choices for each of {len(questions)} questions, got {len(choices)} lists.")
    for texts in choices:
        listed(texts if isinstance(texts, list | tuple) else (), "choices")
    return [
        Question(q.id, q.question, tuple(c), images=q.images, about=q.about)
        if isinstance(q, Question)
        else Question(f"question-{i}", q, tuple(c))
        for i, (q, c) in enumerate(zip(questions, choices, strict=True))
    ]
