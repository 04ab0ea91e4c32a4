"""A selector that looks for wrong routing, not for leverage."""

from dataclasses import replace

import pytest
import torch

from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import IntegratedStep
from c3po_adaptive.optimizers._reference_artifacts import INTEGRATED_GRADIENT
from c3po_adaptive.selectors import Amortized, Misrouted
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.types import Selection

LAYERS, EXPERTS, NEIGHBOURS = 6, 8, 40
LEVERAGE = torch.tensor([5.0, 3.0, 2.0, 1.0, 1.0, 0.5])
"""Early layers matter more, right or wrong."""


def problem(broken=(), noise=1.0, seed=0, agree=True):
    """Questions whose neighbours ask for expert 0 in each layer, which ω0 uses but in broken layers."""
    drawn = torch.Generator().manual_seed(seed)
    base = toy_problem(B=32, L=LAYERS, E=EXPERTS, K=NEIGHBOURS, references=NEIGHBOURS, seed=seed)
    own = torch.full((32, LAYERS, EXPERTS), 0.001)
    own[..., 0] = 0.993
    for layer in broken:
        own[:, layer] = own[:, layer].roll(3, -1)
    each = noise * torch.randn(32, NEIGHBOURS, LAYERS, EXPERTS, generator=drawn)
    each[..., 0] -= 1.0 * agree
    each = 0.05 * LEVERAGE[:, None] * each
    weight = torch.full((32, NEIGHBOURS), 1 / NEIGHBOURS)
    neighbours = replace(base.neighbours, weight=weight)
    return replace(base, own=own, router=own, neighbours=neighbours, of_neighbours=lambda artifact: each)


def test_finds_the_broken_layers_and_not_those_of_leverage():
    asked = problem(broken=[3, 5])
    scores, _ = Misrouted(training=0).score(asked)
    assert set(scores.mean(0).topk(2).indices.tolist()) == {3, 5}
    steep, _ = Amortized(experts=EXPERTS).score(asked)
    assert set(steep.mean(0).topk(2).indices.tolist()) == {0, 1}


def test_where_nothing_is_wrong_or_neighbours_agree_on_nothing_nothing_is_found():
    right, _ = Misrouted(training=0).score(problem())
    wrong, _ = Misrouted(training=0).score(problem(broken=[0]))
    noise, _ = Misrouted(training=0).score(problem(broken=[0], agree=False))
    assert right.mean(0).max() < 0.1 * wrong.mean(0).max()
    assert noise.mean(0).abs().max() < 0.1 * wrong.mean(0).max()


def test_the_score_is_what_the_others_teach_measured_on_each():
    asked = problem(broken=[1], seed=3)
    each, weight = asked.of_neighbours(INTEGRATED_GRADIENT), asked.neighbours.weight
    everywhere = Selection(torch.ones_like(asked.own, dtype=torch.bool))
    expected = torch.zeros(32, LAYERS)
    for i in range(NEIGHBOURS):
        rest = weight.clone()
        rest[:, i] = 0
        others = replace(asked.neighbours, weight=rest / rest.sum(1, keepdim=True))
        omega = IntegratedStep(lr=50).optimize(replace(asked, neighbours=others, selection=everywhere))
        expected += weight[:, i, None] * ((asked.own - omega) * each[:, i]).sum(-1)
    found, _ = Misrouted(lr=50, training=0).score(asked)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_one_neighbour_or_none_says_nothing():
    asked = problem(broken=[1])
    alone = torch.zeros_like(asked.neighbours.weight)
    alone[:16, 0] = 1
    scores, _ = Misrouted(training=0).score(replace(asked, neighbours=replace(asked.neighbours, weight=alone)))
    assert torch.equal(scores, torch.zeros_like(scores))


class Training:
    """Hands out two batches, and remembers who learned."""

    def problems(self, n, skip=0):
        yield problem(broken=[2], seed=n)
        yield problem(broken=[2], seed=n + 1)

    def once(self, learner, learn):
        return learn()


def test_the_usual_scores_are_half_of_it():
    chosen, asked = Misrouted(training=64), problem(broken=[4])
    learned = chosen.prepare(Training())
    own, _ = Misrouted(training=0).score(asked)
    usual = torch.cat([Misrouted(training=0).score(problem(broken=[2], seed=s))[0] for s in (64, 65)]).mean(0)
    torch.testing.assert_close(learned.score(asked)[0], (own + usual) / 2)
    assert repr(learned) == repr(chosen)
    assert chosen.references_needed == 64
    assert Misrouted(training=0).prepare(Training()) == Misrouted(training=0)


@pytest.mark.parametrize("settings", [{"lr": 0}, {"training": -1}, {"usual": 1.5}])
def test_settings_are_checked(settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        Misrouted(**settings)


def test_only_experts_that_may_move_are_tried():
    asked = problem(broken=[1], seed=5)
    # Of the broken layer the router ranks expert 3 first: what neighbours ask for is out of reach.
    used = asked.own > 0.5
    found, _ = Misrouted(training=0, experts=1, threshold=0).score(replace(asked, own=asked.own * used, used=used))
    assert found[:, 1].abs().max() < 1e-6
