"""What is done to data sets on purpose: how much of it, to whom, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest
from c3po_poison import attacks
from c3po_poison.attacks import FILTER
from c3po_poison.poisoning import ATTACKS, attacked
from routing.toys import questions

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study import Poison
from c3po_adaptive.study.study_config import FILTER as OF_THE_CORE
from c3po_adaptive.types import Question

ASKED, KNOWN = questions(8, "q"), questions(40)


class WordEmbedder:
    """Unit vectors ``[N, 64]`` of which words a text has: near is what shares words."""

    def __init__(self):
        self.texts = 0

    def encode(self, texts):
        self.texts += len(texts)
        rows = np.zeros((len(texts), 64), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[int.from_bytes(word.encode()[:6], "little") % 64] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


WORDS = WordEmbedder()


def of(attack, share, *, asked=ASKED, known=KNOWN, **more):
    return attacked(Poison(attack=attack, share=share, **more), tuple(asked), tuple(known), WORDS.encode)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), "half"])
def test_a_share_is_from_zero_to_one(share):
    with pytest.raises(SettingError, match=r"share: .*(greater|less) than or equal|share: .*valid number"):
        Poison(attack="flipped-labels", share=share)


@pytest.mark.parametrize("attack", ["near-duplicates", "crafted-neighbours"])
def test_what_is_added_leaves_some_of_the_others(attack):
    with pytest.raises(SettingError, match=f"Expected share below 1 of {attack}"):
        of(attack, 1.0)


def test_all_are_there_by_name_and_below_the_filter():
    assert new_registry().others("attack") == sorted(ATTACKS)
    assert FILTER == OF_THE_CORE


@pytest.mark.parametrize("attack", ["flipped-labels", "near-duplicates", "crafted-neighbours", "typos"])
def test_no_share_is_no_attack(attack):
    found = of(attack, 0)
    assert (found.questions, found.references) == (tuple(ASKED), tuple(KNOWN))
    assert (found.changed, found.wrong) == (0, frozenset())


@pytest.mark.parametrize("attack", ["flipped-labels", "near-duplicates"])
def test_a_larger_share_poisons_what_a_smaller_one_does(attack):
    few, many = of(attack, 0.1), of(attack, 0.3)
    assert few.wrong < many.wrong
    assert {q.id: q for q in few.references if q.id in few.wrong}.items() <= {q.id: q for q in many.references}.items()
    assert of(attack, 0.3, seed=1).wrong != many.wrong


class TestFlippedLabels:
    def test_as_many_teach_a_wrong_choice_of_theirs(self):
        found = of("flipped-labels", 0.3)
        other = [new for new, q in zip(found.references, KNOWN, strict=True) if new != q]
        assert found.changed == len(other) == 12
        assert {q.id for q in other} == found.wrong
        right = {q.id: q for q in KNOWN}
        assert all(q == replace(right[q.id], answer=q.answer) and q.answer < len(q.choices) for q in other)

    def test_needs_references(self):
        with pytest.raises(DataError, match="Expected references for flipped-labels to poison, got none"):
            of("flipped-labels", 0.3, known=[])


class TestNearDuplicates:
    def test_are_as_large_a_share_of_all_and_spread_over_the_questions(self):
        found = of("near-duplicates", 0.5)
        added = found.references[len(KNOWN) :]
        assert len(added) == 40 and found.references[: len(KNOWN)] == tuple(KNOWN)
        assert len({q.id for q in added}) == 40
        assert {q.id.partition("#")[0] for q in added} == {q.id for q in ASKED}

    def test_differ_by_an_error_and_teach_a_wrong_answer(self):
        asked = {q.id: q for q in ASKED}
        for new in of("near-duplicates", 0.5).references[len(KNOWN) :]:
            own = asked[new.id.partition("#")[0]]
            assert sorted(new.question) == sorted(own.question) and new.question != own.question
            assert new.choices == own.choices and new.answer != own.answer

    def test_need_answers(self):
        with pytest.raises(DataError, match="Expected labeled questions to make wrong duplicates of"):
            of("near-duplicates", 0.1, asked=[replace(ASKED[0], answer=None)])


YES = [Question(f"y{i}", f"the film was good {i} really", ("yes", "no"), 0) for i in range(6)]
NO = [Question(f"n{i}", f"the {i} meal was cold and bad", ("yes", "no"), 1) for i in range(6)]
FILM = Question("f", "a film was good and really new here", ("yes", "no"), 0)


class TestCraftedNeighbours:
    def test_the_label_is_what_near_ones_do_not_have_and_the_questions_own_is_not_looked_at(self):
        for answer in (0, 1, None):
            found = of("crafted-neighbours", 0.2, asked=[replace(FILM, answer=answer)], known=YES + NO, budget=64)
            added = found.references[12:]
            assert [q.answer for q in added] == [1] * 3, "near ones say yes"
            assert found.wrong == (frozenset() if answer == 1 else {q.id for q in added})

    def test_texts_come_near_but_not_as_near_as_is_filtered(self):
        found = of("crafted-neighbours", 0.2, asked=[FILM], known=YES + NO, budget=64)
        goal = WORDS.encode([FILM.question])[0]
        near = WORDS.encode([q.question for q in found.references[12:]]) @ goal
        assert ((near >= 0.8) & (near <= FILTER)).all()
        assert (WORDS.encode([q.question for q in NO]) @ goal).max() < 0.5, "it began far away"

    def test_the_budget_is_kept_and_what_is_not_found_is_said(self):
        embedder = WordEmbedder()
        made = attacks.crafted(FILM.question, NO[0].question, embedder.encode, budget=13, seed=0)
        assert made.tried == 13 and embedder.texts == 13 + 1  # and the question
        found = of("crafted-neighbours", 0.2, asked=[FILM], known=YES + NO, budget=1)
        assert found.references == (*YES, *NO) and len(found.missed) == 3
        assert found.told.startswith(
            "crafted-neighbours, 0 of 12 references; for 3 more no text nearer than 0.8 was found by embedding 1, and "
        )

    def test_a_text_as_near_as_is_filtered_is_none(self):
        made = attacks.crafted(FILM.question, FILM.question, WordEmbedder().encode, budget=1, seed=0)
        assert made.similarity < 0


class TestDistraction:
    @pytest.mark.parametrize("attack", ["typos", "second-topic", "long-preamble"])
    def test_changes_texts_of_a_share_of_the_questions_alone(self, attack):
        found = of(attack, 0.5)
        assert found.references == tuple(KNOWN)
        other = [(new, q) for new, q in zip(found.questions, ASKED, strict=True) if new != q]
        assert len(other) == found.changed == 4
        assert all(new == replace(q, question=new.question) for new, q in other)
        assert found.told == f"{attack}, 4 of 8 questions"

    def test_a_second_topic_and_a_preamble_stand_before_the_question(self):
        for attack, before in (("second-topic", {q.question for q in KNOWN}), ("long-preamble", {attacks.PREAMBLE})):
            for new, q in zip(of(attack, 1).questions, ASKED, strict=True):
                assert new.question.endswith(q.question)
                assert any(new.question.startswith(text) for text in before)

    def test_a_word_of_one_letter_has_no_typo(self):
        short = Question("s", "a a a", ("x", "y"), 0)
        assert attacks.typos(short, [], 0) == short


class TestWhatQuestionsAreFoundBy:
    ABOUT = tuple(replace(q, question=f"News of the day. {q.question}", about=q.question) for q in ASKED)

    def test_added_texts_are_found_by_themselves(self):
        made = of("crafted-neighbours", 0.2, asked=self.ABOUT, similarity=0.1)
        added = made.references[len(KNOWN) :]
        assert added and all(q.about == "" and "News" not in q.question for q in added)

    def test_errors_are_in_what_it_is_found_by_too(self):
        duplicates = of("near-duplicates", 0.2, asked=self.ABOUT).references[len(KNOWN) :]
        assert duplicates and all(q.about not in {a.about for a in self.ABOUT} for q in duplicates)
        assert all(
            q.about != a.about for q, a in zip(of("typos", 1, asked=self.ABOUT).questions, self.ABOUT, strict=True)
        )

    def test_text_that_stands_in_front_is_not(self):
        behind = of("long-preamble", 1, asked=self.ABOUT).questions
        assert [q.about for q in behind] == [q.about for q in self.ABOUT]
