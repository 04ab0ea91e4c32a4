"""An answerer's answers, refused where records cannot be made of them; what fails is named by arm and question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite

from ...answerers import Answerer
from ...errors import C3POError, PluginError, place_of
from ...types import NO_CHOICE, Answer, Question, Score


def answered(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> list[Answer]:
    """Answers that records can be made of.

    Raises:
        PluginError: naming the arm, and the question that a plugin failed at.
    """
    try:
        return _checked(arm, answerer, asked, score)
    except PluginError as error:
        raise PluginError(f"Arm {arm}, {_failing(arm, answerer, asked, score)}: {error}") from error


def _failing(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> str:
    """The first question that fails by itself; else all that were asked together."""
    for question in asked:
        try:
            _checked(arm, answerer, [question], score)
        except C3POError:
            return f"question {question.id!r}"
    return f"{len(asked)} questions together, from {asked[0].id!r} on"


def _checked(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> list[Answer]:
    with blamed(arm, answerer):
        answers = answerer.answer(asked)
    check_answers(arm, asked, answers, score)
    return answers


@contextmanager
def blamed(arm: str, made: object) -> Iterator[None]:
    """An unforeseen error in an arm's answerer is that arm's, by name, file and line."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:
        raise PluginError(
            f"Expected the answerer of arm {arm!r} to work, got {type(error).__name__} at "
            f"{place_of(error, type(made))}: {error}; correct it, or leave the arm out."
        ) from error


def check_answers(arm: str, asked: Sequence[Question], answers: Sequence[Answer], score: Score = "likelihood") -> None:
    """Refuse answers that records cannot be made of.

    Raises:
        PluginError: with the arm's name, and what is wrong.
    """
    if len(answers) != len(asked):
        wrong = f"{len(asked)} answers, one for each question, got {len(answers)}"
    else:
        found = (_wrong(question, answer, score) for question, answer in zip(asked, answers, strict=True))
        wrong = next(filter(None, found), "")
    if wrong:
        raise PluginError(f"Expected the answerer of arm {arm!r} to give {wrong}; correct it.")


def _wrong(question: Question, answer: Answer, score: Score) -> str:
    """What was wanted of an answer, and what came; "": it will do."""
    choices, of, written = len(question.choices), f"for {question.id!r}", score == "generated"
    if written and answer.generated is None:
        return f"what it wrote {of}, as the data set has score: generated, got a choice without it"
    if answer.choice not in range(NO_CHOICE if written else 0, choices):
        return f"a choice from 0 to {choices - 1} {of}, got {answer.choice}"
    if len(answer.scores) != choices or not all(map(isfinite, answer.scores)):
        return f"{choices} finite scores {of}, got {answer.scores}"
    if len(answer.base_scores) not in (0, choices):
        return f"{choices} base scores {of}, or none, got {len(answer.base_scores)}"
    return "" if answer.base_flops > 0 else f"base_flops above zero {of}, got {answer.base_flops}"
