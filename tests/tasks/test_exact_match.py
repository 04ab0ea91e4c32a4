"""Which choice a generated text is."""

import pytest

from c3po_adaptive.tasks import Cloze, Letter
from c3po_adaptive.tasks.exact_match import lettered, matched
from c3po_adaptive.types import NO_CHOICE, Question

BOAT = Question("q", "What floats?", ("a stone", "a boat"), answer=1, task="toy")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        *(("a boat", 1), ("Boat.", 1), ("the  BOAT", 1), ('"A stone"!', 0)),
        *(("a boat on water", NO_CHOICE), ("boats", NO_CHOICE), ("", NO_CHOICE), ("the", NO_CHOICE)),
    ],
)
def test_case_punctuation_articles_and_space_do_not_count(text, choice):
    assert matched(text, BOAT.choices) == choice
    assert Cloze().read(text, BOAT) == choice


@pytest.mark.parametrize(
    ("choices", "text", "choice"),
    [
        (("5", "-5"), "-5", 1),
        (("5", "-5"), "5.", NO_CHOICE),
        (("a", "an", "the"), "An", 1),
        (("+", "-"), "-", 1),
    ],
)
def test_they_count_where_choices_are_told_apart_by_nothing_else(choices, text, choice):
    assert matched(text, choices) == choice


def test_a_blank_is_filled_and_the_sentence_ended():
    gap = Question("q", "A thing that floats is ___ of wood.", ("a stone", "a boat"))
    assert Cloze().read("a boat of wood", gap) == 1
    assert Cloze().read("a boat", gap) == NO_CHOICE


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        *(("B", 1), ("The answer is (B).", 1), ("B. a boat", 1), ("A or B", 0)),
        *(("I take B", 1), ("Boat", NO_CHOICE), ("b", NO_CHOICE), ("C", NO_CHOICE), ("", NO_CHOICE), ("B2", NO_CHOICE)),
    ],
)
def test_the_first_letter_of_a_choice_that_stands_alone(text, choice):
    assert lettered(text, 2) == choice
    assert Letter().read(text, BOAT) == choice
