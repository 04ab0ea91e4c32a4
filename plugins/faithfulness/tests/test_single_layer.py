"""The selectors ``causal`` and ``oracle-layers``: the contract, and effects against one layer re-mixed by hand."""

import pytest
import torch
from c3po_faithfulness.single_layer import Causal, OracleLayers
from one_layer import chosen, only

from c3po_adaptive import SettingError
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.registry import default_registry, in_words
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.testing import SelectorContract, ToyTraining, toy_problem

BOTH = (Causal, OracleLayers)


class TestEach(SelectorContract):
    @pytest.fixture(params=[kind(n=2, experts=6, optimizer=NGD(steps=2)) for kind in BOTH], ids=in_words)
    def selector(self, request):
        return request.param


@pytest.fixture
def problem():
    return toy_problem(selected=None)


def test_their_optimizer_is_named_where_they_are():
    made = default_registry().create("selector", {"name": "causal", "optimizer": {"name": "ngd", "steps": 1}})
    assert made == Causal(optimizer=NGD(steps=1))
    with pytest.raises(SettingError, match=r"causal\.optimizer to be a PathwayOptimizer, got 'ngd'; names are"):
        Causal(optimizer="ngd")


def test_the_only_layer_that_matters_is_found(problem):
    assert chosen(Causal(experts=6, optimizer=NGD(steps=1)).select(only(problem, 3))) == [[3]] * 3


def test_causal_is_the_effect_of_one_layer(problem):
    selector = Causal(n=6, experts=8, optimizer=NGD(steps=4, lr=0.05))
    scores = selector.select(problem).scores
    for row in range(6):
        alone = problem.within(Fixed(layers=(row + 2,), experts=8).select(problem))
        fall = problem.loss(problem.own) - problem.loss(selector.optimizer.optimize(alone))
        torch.testing.assert_close(scores[:, row], fall)


def test_oracle_layers_know_the_label_but_their_optimizer_does_not():
    problem = toy_problem(selected=None, labeled=True)
    selector = OracleLayers(n=6, experts=8, optimizer=NGD(steps=4, lr=0.05))
    selection = selector.select(problem)
    for row in range(6):
        alone = problem.unlabeled().within(Fixed(layers=(row + 2,), experts=8).select(problem))
        fall = problem.label_loss(problem.own) - problem.label_loss(selector.optimizer.optimize(alone))
        torch.testing.assert_close(selection.scores[:, row], fall)
    assert torch.equal(selection.layers, selection.scores > 0), "layers that do harm are left"
    with pytest.raises(SettingError, match="questions with known answers"):
        selector.select(problem.unlabeled())


@pytest.mark.parametrize("make", BOTH)
def test_re_mix_as_the_run_does_unless_told_otherwise(make):
    practice, problem = ToyTraining(), toy_problem(selected=None, labeled=True)
    prepared = make(n=6, experts=8).prepare(practice)
    assert prepared.optimizer == practice.optimizer
    given = make(n=6, experts=8, optimizer=NGD(steps=1)).prepare(practice)
    assert given.optimizer == NGD(steps=1)
    with pytest.raises(SettingError, match=f"{make.name} expected an optimizer to re-mix layers with"):
        make().score(problem)
