"""Policies that learn by trial: they find the planted choice, and random rewards do not."""

from functools import cache

import pytest
import torch
from c3po_research.reinforced import RLExperts, RLLayers, run_again

from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import NGD
from c3po_adaptive.testing import ToyTraining, altered, toy_problem
from c3po_adaptive.types import Selection

QUICK = {"training": 20, "group": 8, "epochs": 80, "lr": 0.2, "spread": 0.0, "dimensions": 2}
HELPS = 2


def moved(problem, weights):
    """``[B, L, E]`` bool."""
    return (weights - problem.own).abs() > 1e-7


def layer_two_helps(problem):
    """Re-mixing layer 2 gains one, any other costs one."""
    worth = torch.full((problem.own.shape[1],), 1.0)
    worth[HELPS] = -1.0
    return altered(problem, label_loss=lambda weights: (moved(problem, weights).any(-1) * worth).sum(-1))


def state_tells(problem):
    """Layer 2 helps where the state is positive, and harms where it is not."""
    state = problem.router_input.clone()
    state[:, 0] = (torch.arange(len(state)) % 2 * 4.0 - 2.0)[:, None]
    problem = altered(problem, router_input=state)
    sign = -state[:, 0, 0].sign()
    return altered(problem, label_loss=lambda weights: moved(problem, weights)[:, HELPS].any(-1) * sign)


def likely_experts_help(problem):
    """Weight on the first half of the router's experts gains, on the others it costs."""
    first = problem.ranking.argsort(-1, descending=True).argsort(-1) < problem.own.shape[-1] // 2

    def loss(weights):
        more = (weights - problem.own).clamp_min(0)
        return (more * ~first).sum((1, 2)) - 0.1 * (more * first).sum((1, 2))

    return altered(problem, label_loss=loss)


def training(made):
    return ToyTraining(optimizer=NGD(steps=2, lr=0.1), made=made)


@cache
def practised():
    """What is learned, quickly, where layer two helps."""
    return RLLayers(experts=None, **QUICK).prepare(training(layer_two_helps))


def test_it_finds_the_layer_that_helps():
    chosen = practised().select(asked()).layers
    assert chosen[:, HELPS].all() and chosen.sum() == len(chosen)


def test_it_finds_it_as_it_is_set_by_default():
    learned = RLLayers(experts=None).prepare(training(layer_two_helps)).learned["offset"]
    assert learned[HELPS] > 1.5 and (learned[[0, 1, 3, 4, 5]] < 0).all()


def rarely_helps_much(problem):
    """Re-mixing layer 2 gains two for every fifth question, and costs the others little: it pays."""
    worth = torch.where(torch.arange(len(problem.own)) % 5 == 0, -2.0, 0.05)
    return altered(problem, label_loss=lambda weights: moved(problem, weights)[:, HELPS].any(-1) * worth)


def test_it_goes_by_the_mean_reward_not_by_how_often():
    """Never taken it would be 0, always 0.36."""
    learned = RLLayers(experts=None, **QUICK).prepare(training(rarely_helps_much)).learned
    assert learned["reward"][-10:].mean() > 0.33


def every_layer_helps(problem):
    return altered(problem, label_loss=lambda weights: -moved(problem, weights).any(-1).sum(-1).to(weights.dtype))


class ElsewhereAll(ToyTraining):
    """References of which those that come first are helped by layer 2 alone, and the others by every layer."""

    def problems(self, n, skip=0):
        return map(layer_two_helps if skip == 0 else every_layer_helps, super().problems(n, skip))


@pytest.mark.slow
def test_what_does_not_hold_on_references_that_are_held_back_is_not_kept():
    policy = RLLayers(experts=None, **QUICK).prepare(ElsewhereAll(optimizer=NGD(steps=2, lr=0.1)))
    assert policy.learned["beats"] == 0
    assert policy.select(asked()).layers.all(), "what it began with"
    assert practised().learned["beats"] == 1


def test_random_rewards_do_not_find_it():
    chosen = RLLayers(experts=None, reward="random", **QUICK).prepare(training(layer_two_helps)).select(asked()).layers
    assert not (chosen[:, HELPS].all() and chosen.sum() == len(chosen))


def test_it_finds_which_questions_it_helps():
    problem = state_tells(asked(labeled=True)).unlabeled()
    policy = RLLayers(experts=None, **QUICK | {"training": 40}).prepare(training(state_tells))
    chosen = policy.select(problem).layers[:, HELPS]
    assert chosen.tolist() == [b % 2 == 1 for b in range(len(chosen))]


def test_it_finds_the_experts_that_help():
    chosen = RLExperts(groups=2, **QUICK).prepare(training(likely_experts_help)).select(asked()).mask
    first = asked().ranking.argsort(-1, descending=True).argsort(-1) < 12
    assert (chosen == first).all()


@pytest.mark.slow
def test_a_price_buys_less_and_a_policy_of_none_says_so():
    free = practised()
    with pytest.warns(UserWarning, match="re-mix none of 20"):
        dear = RLLayers(experts=None, price=5.0, **QUICK | {"epochs": 240}).prepare(training(layer_two_helps))
    costs = [run_again(policy.select(asked())).mean() for policy in (free, dear)]
    assert costs[0] > costs[1] == 0


def test_its_curves_show_that_it_learned():
    learned = practised().learned
    assert learned["reward"].shape == learned["entropy"].shape == (QUICK["epochs"],)
    assert learned["reward"][-5:].mean() > learned["reward"][:3].mean() + 1
    assert learned["entropy"][-1] < learned["entropy"][0]


def test_what_is_run_again_is_counted_from_the_first_layer():
    mask = torch.zeros(3, 4, 2, dtype=torch.bool)
    mask[0, 0, 0] = mask[1, 3, 1] = True
    assert run_again(Selection(mask)).tolist() == [1.0, 0.25, 0.0]


def asked(**changes):
    return toy_problem(4, 6, 24, seed=7, selected=None, **changes)


def test_more_groups_than_experts_are_refused():
    with pytest.raises(SettingError, match="at most 4 experts"):
        RLExperts(groups=5).fits((1, 2), 4)
