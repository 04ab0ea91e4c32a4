"""CoR as a plugin: what layers and experts are scored by, and how a budget is spread over them."""

import pytest
import torch
from c3po_rivals.cor import CoR, relative_sensitivity, seats_by_layer
from remixing.test_remixer import remixer
from routing.toys import questions

from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import NoStep
from c3po_adaptive.testing import ToyTraining, altered, toy_problem
from c3po_adaptive.types import Pathway


def taught(sensitivity, impact=None, **settings):
    impact = torch.zeros(6, 24) if impact is None else impact
    return CoR(learned={"sensitivity": sensitivity, "impact": impact}, **settings)


def linear(problem, slope):
    """The problem with a loss that rises by ``slope [L, E]`` with each weight."""

    def loss(weights, running=None):
        return (weights * slope).sum((1, 2))

    return altered(problem, label_loss=loss)


def test_impact_is_the_mean_rise_when_the_mass_is_redistributed():
    """In loops, for a loss that is known."""
    slope = torch.randn(6, 24, generator=torch.Generator().manual_seed(3))
    seen = []

    def made(problem):
        seen.append(problem.own)
        return linear(problem, slope)

    found = CoR(training=20).prepare(ToyTraining(made=made)).learned["impact"]
    own = torch.cat(seen)
    for layer, expert in ((0, 3), (4, 7), (5, 20)):
        rises = []
        for weights in own[:, layer]:
            if weights[expert] > 0:
                without = weights.clone()
                without[expert] = 0
                without = without * weights.sum() / without.sum()
                rises.append(float(((without - weights) * slope[layer]).sum()))
        expected = sum(rises) / len(rises) if rises else 0.0
        assert found[layer, expert].item() == pytest.approx(expected, abs=1e-5)


def test_sensitivity_is_of_hard_references_over_easy_ones():
    changes = torch.tensor([[4.0, 1.0], [6.0, 1.0], [1.0, 2.0], [3.0, 0.0]])
    found = relative_sensitivity(changes, torch.tensor([0.9, 0.8, 0.1, 0.3]))
    torch.testing.assert_close(found, torch.tensor([5.0 / 2.0, 1.0 / 1.0]))


def test_layer_that_only_hard_references_feel_is_the_most_sensitive():
    """Layer 2 has a say where the choices are even, layer 4 where they are not."""

    def made(problem):
        hard = torch.arange(len(problem.own)) % 2 == 0
        even = torch.tensor([[0.0, 0.0, 0.0], [0.0, -9.0, -9.0]])[(~hard).long()]
        directions = torch.zeros(2, 6, 24)
        directions[:, :, :12] = 0.1
        directions[0, 2, :12] = directions[1, 4, :12] = 5.0

        def loss(weights, running=None):
            return (weights * directions[(~hard).long()]).sum((1, 2))

        return altered(problem, label_loss=loss, own_scores=even)

    found = CoR(training=40).prepare(ToyTraining(made=made)).learned["sensitivity"]
    assert found.argmax() == 2
    assert found.argmin() == 4


def test_seats_are_in_proportion():
    """Highest averages: 100 seats for votes of 53, 24 and 23 (D'Hondt's own kind of example), in loops."""
    votes, seats = [53.0, 24.0, 23.0, 0.5], 30
    got = [0] * 4
    for _ in range(seats):
        got[max(range(4), key=lambda i: votes[i] / (got[i] + 1) if got[i] < 12 else -1)] += 1
    found = seats_by_layer(torch.tensor(votes), torch.tensor([seats, 1, 0]), 12)
    assert found.tolist() == [got, [1, 0, 0, 0], [0, 0, 0, 0]]
    assert got[0] == 12, "no more than a layer has experts"


def test_spends_what_the_model_activates():
    problem = toy_problem(selected=None)
    selection = taught(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).select(problem)
    assert selection.mask.sum((1, 2)).tolist() == [6 * 4] * 3
    counts = selection.mask[0].sum(-1)
    assert counts.tolist() == sorted(counts.tolist())
    assert counts[5] > counts[0]


def test_experts_of_the_highest_impact_come_first_then_the_routers():
    problem, impact = toy_problem(selected=None), torch.zeros(6, 24)
    impact[5, 17], impact[5, 3] = 0.2, 0.1
    impact[5, problem.router[0, 5].argmax()] = -0.1
    selector = taught(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), impact, budget=4)
    chosen = selector.select(problem).mask[0, 5].nonzero().squeeze(1).tolist()
    others = [e for e in problem.router[0, 5].argsort(descending=True).tolist() if e not in (17, 3)][1:3]
    assert set(chosen) == {17, 3, *others}


class TestInARun:
    def test_no_pass_per_question_and_the_experts_are_mixed(self):
        selector = CoR(training=16)
        c3po = remixer(optimizer=NoStep(start="core"), selector=selector)
        for answer in c3po.answer(questions(4, "t")):
            assert answer.cost.total == answer.cost.prefill + answer.cost.answer
            assert len(answer.layer_scores) == len(c3po.model.layers)
            assert answer.experts

    def test_is_the_same_again_and_known_by_its_parameters(self):
        selector = CoR(training=16)
        one, other = (remixer(selector=selector).strategies.selector for _ in range(2))
        assert repr(one) == repr(selector)
        for name in ("sensitivity", "impact"):
            assert torch.equal(one.learned[name], other.learned[name])

    def test_effects_are_those_on_answers_with_all_other_layers_left_alone(self):
        c3po = remixer()
        (problem,) = c3po.training.problems(6)
        change, rises = CoR()._tried(problem, 1)
        expert = problem.own[:, 1].argmax(-1)
        without = problem.own.clone()
        without[torch.arange(6), 1, expert] = 0
        without[:, 1] *= problem.own[:, 1].sum(-1, keepdim=True) / without[:, 1].sum(-1, keepdim=True)
        states = problem.loss.__self__.batch.states
        pathway = Pathway(without, problem.own, problem.layers)
        before, after = (
            torch.stack(
                [-scores.log_softmax(-1)[answer] for scores, answer in zip(given, problem.answers, strict=True)]
            )
            for given in (c3po.model.choice_scores(states), c3po.model.choice_scores(states, pathway))
        )
        torch.testing.assert_close(rises[torch.arange(6), expert], after - before, atol=1e-5, rtol=1e-3)
        assert (rises[problem.own[:, 1] == 0] == 0).all()
        assert (change > 0).all()


def test_budget_beyond_the_model():
    with pytest.raises(SettingError, match="budget of at most 12 experts, 4 in each of 3 layers, got 13"):
        CoR(budget=13).fits((1, 2, 3), 4)
