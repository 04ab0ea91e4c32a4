"""Learned kinds in other words: every row of the bed's files, and what may not change by it."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from c3po_bed import LEARNED
from c3po_bed.wording import reworded, wordings

from c3po_adaptive.tasks.question_files import load_questions
from c3po_adaptive.types import Question

BED = Path(__file__).parents[4] / "shared" / "pool"
ANEW = {kind: wording for kind, wording in wordings().items() if wording.anew}
PLACE = re.compile(r"\{(\w+)\}")


def test_twenty_learned_kinds_have_two_other_wordings():
    assert len(ANEW) >= 20
    assert ANEW.keys() <= LEARNED.keys()
    assert all(len(wording.anew) >= 2 for wording in ANEW.values())


@pytest.mark.parametrize("kind", ANEW)
def test_a_wording_keeps_what_is_the_questions_own_and_changes_all_else(kind):
    wording = ANEW[kind]
    labels = {*wording.anew[0].answers}
    for variant in wording.anew:
        assert sorted(PLACE.findall(variant.ask)) == sorted(PLACE.findall(wording.asked))
        assert variant.answers.keys() == labels
        assert len({*variant.answers.values()}) == len(labels)
        words = {word.casefold() for word in variant.answers.values()}
        assert not words & {label.casefold() for label in labels}
        assert not [text for text in variant.answers.values() if text != text.strip()]
    first, second = (variant for variant in wording.anew[:2])
    assert first.ask != second.ask
    assert not {*first.answers.values()} & {*second.answers.values()}


@pytest.mark.parametrize("kind", wordings())
@pytest.mark.parametrize("split", ["train", "references", "validation", "test"])
def test_every_row_of_the_files(kind, split):
    file = BED / f"{kind}.{split}.jsonl"
    if not BED.is_dir():
        pytest.skip("the bed's files are not beside the checkout")
    wording = wordings()[kind]
    rows = load_questions(file)
    assert all(wording.asked.format(**wording.parts(row.question)) == row.question for row in rows)
    if kind not in ANEW:
        return
    instruction = [text.strip(' "\n') for text in re.split(r"\{\w+\}", wording.asked)]
    variants = Counter()
    for row in rows:
        parts, new = wording.parts(row.question), reworded(row)
        assert not [text for text in instruction for part in parts.values() if len(text) > 3 and text in part], row.id
        assert all(part in new.question for part in parts.values())
        assert not [text for text in instruction if len(text) > 3 and text in new.question], new
        number = int(new.id.removeprefix(f"{row.id}/r")) - 1
        variants[number] += 1
        answers = wording.anew[number].answers
        assert new.choices[new.answer] == answers[row.choices[row.answer]]
        assert len({*new.choices}) == len(row.choices)
        assert (new.task, new.answer, new.split) == (row.task, row.answer, row.split)
        assert reworded(row) == new
    assert min(variants[number] for number in range(len(wording.anew))) > len(rows) / 5


def test_texts_with_braces_quotes_and_line_breaks_stay_as_they_are():
    asked = 'In the film question "who said "{x}"\nin jaws", what is "jaws"?'
    film = Question("f/1", asked, ("an actor", "part of the plot"), 1, task="movie_slot")
    for number in range(8):
        assert 'who said "{x}"\nin jaws' in reworded(replace(film, id=f"f/{number}")).question
