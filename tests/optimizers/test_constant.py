"""One change for all questions: what it learns from, and what it costs."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from c3po_adaptive.answerers import Remix
from c3po_adaptive.errors import SettingError
from c3po_adaptive.kernels import Kernel
from c3po_adaptive.optimizers import AmortizedNGD, Constant, ConstantIntegratedStep, IntegratedStep, NoStep
from c3po_adaptive.optimizers._reference_artifacts import GRADIENT
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.selectors import Fixed
from c3po_adaptive.testing import toy_context, toy_problem
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(4, "asked")


@dataclass(frozen=True)
class Equal(Kernel):
    """The same for all."""

    name: ClassVar[str] = "equal"

    def __call__(self, x, y):
        return np.ones((len(x), len(y)))


@dataclass(frozen=True)
class Drawing(Fixed):
    """Draws references to learn from, and keeps their pathways."""

    drawn: list = field(default_factory=list, repr=False, compare=False)
    name: ClassVar[str] = "drawing"

    @property
    def references_needed(self):
        return 8

    def prepare(self, training):
        self.drawn.extend(own for problem in training.problems(8) for own in problem.own)
        return self


def remixer(optimizer, held_out=(), selector=None, **settings):
    context = toy_context(**{"learn_from": "all", "max_similarity": 1.0} | settings)
    chosen = selector or Fixed(n=2, experts=5)
    strategies = replace(
        context.strategies, optimizer=optimizer, kernel=Equal(), retriever=FaissKNN(k=20), selector=chosen
    )
    return Remix().prepare(replace(context, strategies=strategies, held_out=frozenset(held_out)))


def mean_gradient(run, rows):
    """Of some references, by the same door that it is learned through."""
    ids = {q.id for row, q in enumerate(run.references.questions) if row not in rows}
    return replace(run.training, held_out=frozenset(ids), taken=0).of_references(GRADIENT).mean(0)


@pytest.mark.parametrize(
    ("constant", "each", "step"),
    [(Constant, AmortizedNGD, {"steps": 4, "lr": 0.1}), (ConstantIntegratedStep, IntegratedStep, {"lr": 2.0})],
)
def test_is_the_same_with_every_reference_as_a_neighbour_of_equal_weight(constant, each, step):
    one, all_near = (remixer(kind(**step)).answer(ASKED) for kind in (constant, each))
    for a, b in zip(one, all_near, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
        assert a.scores != a.base_scores
        torch.testing.assert_close(a.pathway.weights, b.pathway.weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("constant", [Constant, ConstantIntegratedStep])
def test_a_question_costs_its_answer_alone_and_looks_at_no_neighbour(constant):
    run = remixer(constant())
    assert run.candidates is None
    prompts = sum(run.model.plain_work(run.model.encode(q)).flops for q in run.references.questions)
    for answer in run.answer(ASKED):
        assert answer.neighbours == ()
        assert answer.cost.total == answer.cost.prefill + answer.cost.answer
        assert answer.setup_flops > 1.2 * prompts, "the references' prompts and their gradients"


def test_what_is_asked_in_the_same_run_teaches_nothing():
    run = remixer(Constant())
    half = remixer(Constant(), held_out={q.id for q in run.references.questions[:10]})
    torch.testing.assert_close(half.strategies.optimizer.slope, mean_gradient(run, range(10, 20)))
    assert not torch.allclose(run.strategies.optimizer.slope, half.strategies.optimizer.slope)


def test_learns_from_those_that_the_settings_say():
    right = remixer(Constant(), learn_from="successful")
    rows = right.references.correct.nonzero().squeeze(1).tolist()
    assert 0 < len(rows) < 20
    torch.testing.assert_close(right.strategies.optimizer.slope, mean_gradient(right, rows))
    own, drawn = (remixer(Constant(), labels=labels).strategies.optimizer.slope for labels in ("own", "shuffled"))
    assert not torch.allclose(own, drawn)


def test_learns_from_others_than_a_selector_that_learns():
    selector = Drawing(n=2, experts=5)
    run = remixer(Constant(), selector=selector)
    known = run.references.pathways
    drawn = {row for own in selector.drawn for row in range(20) if torch.allclose(known[row], own, atol=1e-6)}
    assert len(drawn) == 8
    torch.testing.assert_close(run.strategies.optimizer.slope, mean_gradient(run, set(range(20)) - drawn))


def test_is_known_by_its_parameters_alone():
    assert repr(remixer(Constant()).strategies.optimizer) == repr(Constant())


def test_refuses_to_go_without_having_learned():
    with pytest.raises(SettingError, match="constant expected references"):
        Constant().optimize(toy_problem())


def test_says_what_is_lacking():
    successes = {q.id for q in remixer(NoStep("core"), selector=Drawing(n=2)).references.successes.questions}
    with pytest.raises(SettingError, match="neither asked themselves nor learned from"):
        remixer(Constant(), held_out=successes, learn_from="successful")
