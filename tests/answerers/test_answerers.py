"""Answerers: the remixer is one, and whatever answers wrongly is refused by its arm's name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from c3po_adaptive.answerers import AnswererStrategy, Remix
from c3po_adaptive.errors import PluginError, SettingError
from c3po_adaptive.study.comparison.comparison_worker import blamed, check_answers
from c3po_adaptive.testing import AnswererContract, toy_bench
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(3, "asked")


class TestRemix(AnswererContract):
    @pytest.fixture
    def answerer(self):
        return Remix()


@dataclass(frozen=True)
class Altered(AnswererStrategy):
    """The plain answers, with something done to them."""

    change: Callable = field(repr=False)
    name: ClassVar[str] = "altered"

    def prepare(self, bench):
        return _Altered(self.change, bench)


@dataclass(frozen=True)
class _Altered:
    change: Callable
    bench: object
    needs_label: ClassVar[bool] = False

    def answer(self, questions):
        return self.change(self.bench.plain(questions), questions)


@dataclass(frozen=True)
class Plain(AnswererStrategy):
    """The model left alone, without a word of how it came about."""

    name: ClassVar[str] = "plain"

    def prepare(self, bench):
        return _Altered(lambda answers, _: [replace(a, base_choice=None, base_scores=()) for a in answers], bench)


class TestPlain(AnswererContract):
    """What an answer does not say may be left out."""

    @pytest.fixture
    def answerer(self):
        return Plain()


def altered(b, **changes):
    """The answers with one of them changed."""
    return lambda answers: [replace(a, **changes) if i == b else a for i, a in enumerate(answers)]


WRONG = {
    "3 answers, one for each question, got 2": lambda answers: answers[:2],
    "a choice from 0 to 1 for 'asked0', got 7": altered(0, choice=7),
    "2 finite scores for 'asked0', got": altered(0, scores=(0.0,)),
    "3 finite scores for 'asked1'": altered(1, scores=(0.0, float("nan"), 1.0)),
    "2 base scores for 'asked0', or none, got 1": altered(0, base_scores=(1.0,)),
    "base_flops above zero for 'asked2', got 0": altered(2, base_flops=0.0),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_answers_are_refused_by_the_arms_name(message):
    answers = WRONG[message](toy_bench().plain(ASKED))
    with pytest.raises(PluginError, match=f"the answerer of arm 'own' to give {message}"):
        check_answers("own", ASKED, answers)


def test_right_answers_are_not():
    check_answers("own", ASKED, toy_bench().plain(ASKED))


def test_an_unforeseen_error_is_the_arms():
    said = r"answerer of arm 'own' to work, got ZeroDivisionError at \S*test_answerers.py:\d+: division by zero"
    with pytest.raises(PluginError, match=said), blamed("own", Altered(lambda answers, _: answers)):
        _ = 1 / 0
    with pytest.raises(SettingError, match="on purpose"), blamed("own", Altered(lambda answers, _: answers)):
        raise SettingError("on purpose")


def test_neighbours_are_those_of_the_settings():
    """Successes or all, own right choices or the control's; the question itself is none of its own."""
    bench = toy_bench(learn_from="all")
    references = bench.references.questions
    assert all(q in references for near in bench.nearest(ASKED) for q, _ in near)
    for near, question in zip(bench.nearest(references), references, strict=True):
        assert question.id not in {q.id for q, _ in near}
    shuffled = toy_bench(learn_from="all", labels="shuffled").nearest(ASKED)
    one, other = ([q for near in found for q, _ in near] for found in (bench.nearest(ASKED), shuffled))
    assert [q.id for q in one] == [q.id for q in other]
    assert [q.answer for q in one] != [q.answer for q in other]
    successes = {q.id for q in bench.references.successes.questions}
    assert all(q.id in successes for near in toy_bench().nearest(ASKED) for q, _ in near)
