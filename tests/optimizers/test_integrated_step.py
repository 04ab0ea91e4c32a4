"""A step along integrated gradients: the integral, the step, and what it keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from study.configs import with_all_arms

from c3po_adaptive.answerers.remix import Remix
from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import ConstantIntegratedStep, IntegratedStep, Oracle
from c3po_adaptive.optimizers._reference_artifacts import INTEGRATED_GRADIENT, integrated_gradient
from c3po_adaptive.optimizers.integrated_step import ASKED
from c3po_adaptive.problem import ReferenceBatch
from c3po_adaptive.references.build import build_reference_set, relabeled
from c3po_adaptive.registry import default_registry, in_words
from c3po_adaptive.remixing.presets import preset_named
from c3po_adaptive.testing import ToyTraining, toy_context, toy_problem
from c3po_adaptive.testing.answerers import toy_questions
from c3po_adaptive.testing.toy import altered
from c3po_adaptive.types import Selection


def references(loss, experts=6, movable=None):
    """Five references of two layers, whose loss is a function of their weights."""
    own = torch.rand(5, 2, experts, generator=torch.Generator().manual_seed(0)).double() * 3
    free = torch.ones_like(own, dtype=torch.bool) if movable is None else movable.expand_as(own)
    nothing = torch.zeros(0)
    whose = (own, own > 0, "weights", own, nothing, free)
    return ReferenceBatch(*whose, nothing, nothing, nothing, nothing, loss, loss, loss)


def everywhere(problem):
    """The problem with all experts of all layers open."""
    return replace(problem, selection=Selection(torch.ones_like(problem.own, dtype=torch.bool)))


def test_the_integral_is_what_the_loss_loses_on_the_way_from_even_weights():
    batch = references(lambda w, running=None: (w**2 + w.roll(1, -1) * w).sum((1, 2)))  # its slope is a line
    even = batch.own.sum(-1, keepdim=True).expand_as(batch.own) / 6
    found = ((batch.own - even) * INTEGRATED_GRADIENT.compute(batch)).sum((1, 2))
    torch.testing.assert_close(found, batch.loss(batch.own) - batch.loss(even))


def test_the_way_begins_at_experts_that_weight_can_be_put_on():
    movable = torch.tensor([True, True, True, True, False, False])
    seen = []
    batch = references(lambda w, running=None: seen.append(w) or w.sum((1, 2)), movable=movable)
    INTEGRATED_GRADIENT.compute(batch)
    even = torch.where(movable, (movable * batch.own).sum(-1, keepdim=True) / 4, batch.own)
    (middle,) = seen
    torch.testing.assert_close(middle, (batch.own + even) / 2)


@pytest.mark.parametrize("lr", [0.5, 20.0, 5000.0])
def test_a_step_keeps_mass_and_allowed_experts_and_lowers_the_linear_loss(lr):
    problem = toy_problem(B=6, K=4, seed=1)
    weight = problem.neighbours.weight[:, :, None, None]
    slope = (weight * problem.of_neighbours(INTEGRATED_GRADIENT)).sum(1)
    omega = IntegratedStep(lr=lr).optimize(problem)
    torch.testing.assert_close(omega.sum(-1), problem.own.sum(-1))
    allowed = (problem.selection.mask | (problem.own > 0)) & problem.selection.layers[..., None]
    assert (omega >= 0).all()
    assert torch.equal(omega[~allowed], problem.own[~allowed])
    asked = weight.sum((1, 2, 3)) > 0
    still = IntegratedStep(lr=1e-9).optimize(problem)  # ω0 with its floor
    assert (((omega - still) * slope).sum((1, 2))[asked] < 0).all()


def test_the_step_is_the_one_of_the_formula():
    problem = everywhere(toy_problem(B=3, K=4, seed=2))
    weight = problem.neighbours.weight.numpy()[:, :, None, None]
    slope = (weight * problem.of_neighbours(INTEGRATED_GRADIENT).numpy()).sum(1)
    own, total = problem.own.numpy(), problem.own.numpy().sum(-1, keepdims=True)
    raised = (own + 0.01 * total) * np.exp(-3 * slope)
    omega = IntegratedStep(lr=3, floor=0.01).optimize(problem)
    np.testing.assert_allclose(omega, raised / raised.sum(-1, keepdims=True) * total, rtol=1e-4)


def test_its_oracle_takes_the_same_step_along_the_label():
    problem = toy_problem(B=5, labeled=True, seed=4)
    step = IntegratedStep(lr=3.0)
    known, still = Oracle(of=step).optimize(problem), IntegratedStep(lr=1e-9).toward_label(problem)
    assert (problem.label_loss(known) < problem.label_loss(still)).all()
    torch.testing.assert_close(known.sum(-1), problem.own.sum(-1))
    untouched = ~problem.selection.layers
    assert torch.equal(known[untouched], problem.own[untouched])


def controlled(optimizer):
    arms = {"base": {"optimizer": "none"}, "each": {"optimizer": optimizer}}
    return with_all_arms({"arms": arms, "controlled": ["each"]}).arms


def test_controls_are_by_its_own_step():
    arms = controlled({"name": "integrated-step", "lr": 50})
    assert arms["constant"].optimizer == {"name": "constant-integrated-step", "lr": 50, "floor": 1e-3}
    assert arms["each, oracle"].optimizer == {"name": "oracle", "of": {"name": "integrated-step", "lr": 50}}
    assert "each, constant" not in arms


@pytest.mark.parametrize("settings", [{"lr": -1}, {"floor": -0.1}, {"lr": float("nan")}])
def test_settings_are_checked(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        IntegratedStep(**settings)


def test_the_constant_step_learns_first():
    with pytest.raises(SettingError, match="references to learn from first"):
        ConstantIntegratedStep().optimize(toy_problem())


def test_steps_that_nothing_takes_once_for_all_still_have_a_bound(monkeypatch):
    """Nobody else's steps stand in the place of one change by these."""
    monkeypatch.setattr(IntegratedStep, "one_for_all", None)
    arms = controlled("integrated-step")
    assert "each, oracle" in arms
    assert "constant" not in arms


def nobody(neighbours):
    return replace(neighbours, weight=torch.zeros_like(neighbours.weight))


class TestDose:
    """What the references choose where no rate is given."""

    def prepared(self, loss_of):
        """After references whose loss is ``loss_of(weights, problem)``."""

        def made(problem):
            return altered(problem, label_loss=lambda weights, running=None: loss_of(weights, problem))

        return IntegratedStep(lr=None).prepare(ToyTraining(made=made))

    def test_is_the_rate_of_the_lowest_loss_of_references(self):
        def beside(weights, problem):
            wanted = IntegratedStep(lr=100.0).optimize(everywhere(problem))
            return (weights - wanted).square().sum((1, 2))

        chosen = self.prepared(beside)
        assert chosen.rate == 100.0 and chosen.lr is None
        problem = toy_problem()
        assert torch.equal(chosen.optimize(problem), IntegratedStep(lr=100.0).optimize(problem))
        assert in_words(chosen) == f"integrated-step (lr 100, chosen by {ASKED} references)"
        assert in_words(replace(chosen, dose=None)) == "integrated-step (lr chosen by the references)"
        assert in_words(Oracle(of=chosen)) == f"oracle (of {in_words(chosen)})"

    def test_is_nothing_where_every_step_harms(self):
        still = self.prepared(lambda weights, problem: (weights - problem.own).square().sum((1, 2)))
        problem = toy_problem()
        assert still.rate == 0 and torch.equal(still.optimize(problem), problem.own)
        assert in_words(still) == f"integrated-step (lr 0, no step: no rate helped {ASKED} references)"

    def test_is_refused_where_no_reference_chose_it(self):
        with pytest.raises(SettingError, match="references to choose its rate by"):
            IntegratedStep(lr=None).optimize(toy_problem())

    def test_of_one_step_for_all_is_chosen_without_the_reference_that_is_asked(self):
        asked = everywhere(next(ToyTraining().problems(3)))
        step = ConstantIntegratedStep(slope=torch.ones(6, 24), count=4)
        with torch.enable_grad():
            own = integrated_gradient(asked.label_loss, asked.own, torch.ones_like(asked.own, dtype=torch.bool))
        torch.testing.assert_close(step._taught(asked), (4 - own) / 3)

    def test_of_an_oracle_is_the_one_of_what_it_bounds(self):
        """It has no neighbours of its own, and would choose none of the rates by none."""
        step = IntegratedStep(lr=None)
        assert Oracle(of=step).needs_neighbours and not Oracle(of=IntegratedStep()).needs_neighbours
        assert Oracle(of=step).prepare(ToyTraining()).of.dose == step.prepare(ToyTraining()).dose
        without = ToyTraining(made=lambda problem: altered(problem, neighbours=nobody(problem.neighbours)))
        with pytest.raises(SettingError, match="references with neighbours to choose its rate by"):
            step.prepare(without)

    def test_is_refused_where_all_references_are_asked_themselves(self):
        with pytest.raises(SettingError, match="that are not asked in the run to choose its rate by, got none"):
            IntegratedStep(lr=None).prepare(ToyTraining(known=0))

    def test_is_learned_once(self):
        training = ToyTraining()
        first = IntegratedStep(lr=None).prepare(training)
        assert training.kept and IntegratedStep(lr=None).prepare(training).dose == first.dose

    @pytest.mark.parametrize(("lr", "known", "moves"), [(None, False, True), (None, True, False), (50.0, False, False)])
    def test_is_all_that_a_reference_which_is_the_question_changes(self, lr, known, moves):
        """And not even that where a run says what it asks."""
        nearest, context = preset_named("nearest"), toy_context(**preset_named("nearest").settings)
        roles = {
            "optimizer": {"name": "integrated-step", "lr": lr},
            "kernel": {"name": "gaussian", "length_scale": 1.0},
        }
        context = replace(context, strategies=default_registry().strategies(nearest.specs | roles))
        question = toy_questions(2, "asked")[1]
        also = build_reference_set(context.model, [replace(question, id="again")], context.embedder)
        both = relabeled([context.references, also], (*context.references.questions, *also.questions))
        made = [replace(context, build_references=lambda of=of: of) for of in (context.references, both)]
        runs = [Remix().prepare(one.holding_out([question]) if known else one) for one in made]
        (alone,), (again,) = (run.answer([question]) for run in runs)
        assert "again" not in {id_ for id_, _, _ in again.neighbours} and alone.neighbours == again.neighbours
        doses = {run.strategies.optimizer.dose for run in runs}
        assert (len(doses) > 1, alone.scores != again.scores) == (moves, moves)

    def test_the_preset_leaves_it_to_the_references(self):
        assert default_registry().strategies(preset_named("nearest").specs).optimizer.lr is None
