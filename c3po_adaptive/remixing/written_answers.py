"""An answer that the model wrote, in place of the likeliest choice."""

from __future__ import annotations

from dataclasses import replace

from ..routing.generation import Written
from ..tasks.formats import Format
from ..types import Answer, Question


def as_written(answer: Answer, question: Question, format: Format, along: Written, own: Written) -> Answer:
    """The answer with the choice that was written, at the price of writing it; its scores stay.

    Args:
        answer: of the question, by likelihood.
        question: what was asked.
        format: how it was put.
        along: what the model wrote along the answer's pathway.
        own: what it wrote along its own.
    """
    ledger = replace(answer.ledger, answer=answer.ledger.answer + along.work)
    choice, base = (format.read(written.text, question) for written in (along, own))
    return replace(answer, choice=choice, base_choice=base, generated=along.text, ledger=ledger)
