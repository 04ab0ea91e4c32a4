"""Answerers: the remixer is one, and whatever answers wrongly is refused by its arm's name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from models.pictured import QUESTIONS as SHOWN
from models.pictured import seeing
from own_plugin import By

from c3po_adaptive import GRADIENT, KNOWN_AND_LOSS, rule_named, taught
from c3po_adaptive.answerers import (
    AlongRule,
    AnswererStrategy,
)
from c3po_adaptive.errors import PluginError, SettingError
from c3po_adaptive.optimizers import NoStep
from c3po_adaptive.references.reference_set import ReferenceSet
from c3po_adaptive.registry import default_registry
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.study.arms import Arm
from c3po_adaptive.study.comparison.checked_answers import blamed, check_answers
from c3po_adaptive.testing import AnswererContract, toy_context
from c3po_adaptive.testing.answerers import toy_questions
from c3po_adaptive.types import NO_CHOICE

ASKED = toy_questions(3, "asked")


@dataclass(frozen=True)
class Altered(AnswererStrategy):
    """The plain answers, with something done to them."""

    change: Callable = field(repr=False)
    name: ClassVar[str] = "altered"

    def prepare(self, context):
        return By(lambda questions: self.change(context.plain(questions), questions))


@dataclass(frozen=True)
class Plain(AnswererStrategy):
    """The model left alone, without a word of how it came about."""

    name: ClassVar[str] = "plain"

    def prepare(self, context):
        return By(lambda asked: [replace(a, base_choice=None, base_scores=()) for a in context.plain(asked)])


EACH = {
    "what an answer does not say may be left out": Plain(),
    "a rule": AlongRule(rule_named("ban:1;top-k:1@last-1")),
}


class TestEach(AnswererContract):
    """As they come, all built-ins keep it in ``tests/testing/test_findings.py``."""

    @pytest.fixture(params=EACH.values(), ids=EACH)
    def answerer(self, request):
        return request.param


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
    answers = WRONG[message](toy_context().plain(ASKED))
    with pytest.raises(PluginError, match=f"the answerer of arm 'own' to give {message}"):
        check_answers("own", ASKED, answers)


def test_written_answers_may_be_none_of_the_choices():
    plain = toy_context().plain(ASKED)
    check_answers("own", ASKED, [replace(a, choice=NO_CHOICE, generated="so") for a in plain], "generated")
    with pytest.raises(PluginError, match="to give what it wrote for 'asked0', as the data set has score: generated"):
        check_answers("own", ASKED, plain, "generated")
    with pytest.raises(PluginError, match="a choice from 0 to 1 for 'asked0', got -1"):
        check_answers("own", ASKED, [replace(a, choice=NO_CHOICE) for a in plain])


def test_right_answers_are_not():
    check_answers("own", ASKED, toy_context().plain(ASKED))


def test_an_unforeseen_error_is_the_arms():
    said = r"answerer of arm 'own' to work, got ZeroDivisionError at \S*test_answerers.py:\d+: division by zero"
    with pytest.raises(PluginError, match=said), blamed("own", Altered(lambda answers, _: answers)):
        _ = 1 / 0
    with pytest.raises(SettingError, match="on purpose"), blamed("own", Altered(lambda answers, _: answers)):
        raise SettingError("on purpose")


def test_neighbours_are_those_of_the_settings():
    """Successes or all, own right choices or the control's; the question itself is none of its own."""
    context = toy_context(learn_from="all")
    references = context.references.questions
    assert all(q in references for near in context.nearest(ASKED) for q, _ in near)
    for near, question in zip(context.nearest(references), references, strict=True):
        assert question.id not in {q.id for q, _ in near}
    shuffled = toy_context(learn_from="all", labels="shuffled").nearest(ASKED)
    one, other = ([q for near in found for q, _ in near] for found in (context.nearest(ASKED), shuffled))
    assert [q.id for q in one] == [q.id for q in other]
    assert [q.answer for q in one] != [q.answer for q in other]
    successes = {q.id for q in context.references.successes.questions}
    assert all(q.id in successes for near in toy_context().nearest(ASKED) for q, _ in near)


def test_neighbours_weigh_what_they_weigh_in_re_mixing():
    context = toy_context()
    found, known = context.neighbours(ASKED), context.candidates.questions
    for b, answer in enumerate(context.remixer().answer(ASKED)):
        ids = [known[row].id for row in found.index[b]]
        assert answer.neighbours == tuple(zip(ids, found.similarity[b].tolist(), found.weight[b].tolist(), strict=True))


def test_prompts_teach_what_the_questions_do_that_they_put():
    context = toy_context()
    asked = context.references.questions[:3]
    labeled = context.prompts(asked), [q.answer for q in asked]
    torch.testing.assert_close(
        context.taught(GRADIENT, *labeled), taught(GRADIENT, context.model, asked, context.settings)
    )
    assert context.teaching_flops(GRADIENT, *labeled) > 0 == context.teaching_flops(KNOWN_AND_LOSS, *labeled)


@dataclass(frozen=True)
class Learning(Plain):
    """Learns ``number`` from the references, by a loss and neighbours."""

    number: int = 0

    def used(self, strategies):
        return ("loss", "retriever")


class TestLearnedOnce:
    @pytest.fixture
    def learned(self, tmp_path):
        """Learn with a strategy, in a context with these changes; whether it was not kept from before."""
        references = toy_context().references.save(tmp_path / "set")

        def learn(strategy=Learning(), changes=(), **settings):
            context = replace(toy_context(**settings), build_references=lambda: ReferenceSet.load(references))
            asked = []
            found = replace(context, **dict(changes)).learned_once(
                strategy, lambda: asked.append(1) or {"number": torch.tensor(strategy.number)}, packages=("torch",)
            )
            assert found["number"] == strategy.number
            return bool(asked)

        return learn

    def test_it_is_kept_beside_the_references_under_all_that_decides_it(self, learned):
        strategies = toy_context().strategies
        assert learned()
        assert not learned()
        assert not learned(learn_from="all"), "which it does not use"
        assert learned(loss="lead")
        assert learned(Learning(1))
        assert learned(changes={"held_out": frozenset({"references0"})})
        assert learned(changes={"strategies": replace(strategies, retriever=FaissKNN(k=2))})
        assert not learned(changes={"strategies": replace(strategies, optimizer=NoStep())}), "which it does not use"

    def test_what_stands_in_no_file_learns_anew(self, learned):
        made = {"Learning": Learning, "dataclass": dataclass}
        exec("@dataclass(frozen=True)\nclass Cell(Learning):\n    pass", made)
        assert learned(made["Cell"]())
        assert learned(made["Cell"]())


class TestAlongARule:
    def test_scores_are_those_of_the_model_along_it(self):
        context = toy_context()
        rule = rule_named("ban:1;temperature:0.5")
        answers = AlongRule(rule).prepare(context).answer(ASKED)
        wanted = context.model.score_choices(ASKED, routing=rule, format=context.format)
        for answer, scores, plain in zip(answers, wanted, context.plain(ASKED), strict=True):
            assert answer.scores == pytest.approx(scores.tolist(), abs=1e-5)
            assert answer.base_scores == pytest.approx(plain.scores, abs=1e-5)
            assert answer.scores != pytest.approx(plain.scores, abs=1e-3), "it acts"

    def test_fewer_experts_cost_less(self):
        context = toy_context()
        (one, two) = (
            AlongRule(rule_named(text)).prepare(context).answer(ASKED)[0].ledger.prefill.flops
            for text in ("top-k:1", "top-k:2")
        )
        assert one < two

    def test_what_is_written_with_images_is_that_of_each_question_alone(self):
        context = replace(toy_context(), model=seeing("qwen3_vl_moe"), score="generated")
        along = AlongRule(rule_named("top-k:1")).prepare(context)
        answers = along.answer(SHOWN)
        assert [a.generated for a in answers] == [along.answer([q])[0].generated for q in SHOWN]
        assert answers[0].generated != context.model.written(context.prompts(SHOWN[:1]))[0].text, "it acts"

    def test_by_name_in_a_configuration(self):
        arm = Arm(answerer={"name": "rule", "rule": "ban:1;top-k:1@last-1"})
        assert default_registry().create("answerer", arm.answerer) == AlongRule(rule_named("ban:1;top-k:1@last-1"))
        with pytest.raises(SettingError, match=r"Expected rule\.rule to be a NamedRule"):
            AlongRule("top-k:1")

    @pytest.mark.parametrize(
        ("text", "said"), [("ban:9", "experts of rule 'ban' from 0 to 7"), ("top-k:1@9", "among the MoE layers 0, 1")]
    )
    def test_is_refused_before_a_run_where_the_model_lacks_it(self, text, said):
        context = toy_context()
        with pytest.raises(SettingError, match=said):
            AlongRule(rule_named(text)).fits(context.strategies, (0, 1), 8, 0)
