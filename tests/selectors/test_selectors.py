"""Layer selectors: the contract, and attribution against closed forms on the toy."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from c3po_adaptive.errors import SettingError
from c3po_adaptive.selectors.attribution import Attribution
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.selectors.random import RandomLayers
from c3po_adaptive.testing import SelectorContract, toy_problem

METHODS = ("input-x-gradient", "integrated-gradients", "feature-ablation")
BASELINES = ("uniform", "neighbours", "zero")
TARGETS = ("neighbours", "entropy")


class TestFixed(SelectorContract):
    @pytest.fixture(
        params=[
            {},
            {"layers": "first", "n": 1},
            {"layers": "middle", "experts": 3},
            {"layers": "all"},
            {"layers": (3, 5)},
        ],
        ids=str,
    )
    def selector(self, request):
        return Fixed(**request.param)


class TestRandom(SelectorContract):
    @pytest.fixture(params=[{}, {"n": 1, "experts": 2}, {"n": 0}], ids=str)
    def selector(self, request):
        return RandomLayers(**request.param)


class TestAttribution(SelectorContract):
    @pytest.fixture(params=list(product(METHODS, BASELINES, TARGETS)), ids=", ".join)
    def selector(self, request):
        method, baseline, target = request.param
        return Attribution(method, baseline, target, n=2, experts=6)


class TestFixedLayers:
    @pytest.mark.parametrize(
        ("settings", "rows"),
        [
            ({"n": 2}, [4, 5]),
            ({"layers": "first", "n": 2}, [0, 1]),
            ({"layers": "middle", "n": 2}, [2, 3]),
            ({"layers": "middle", "n": 3}, [1, 2, 3]),
            ({"layers": "all"}, [0, 1, 2, 3, 4, 5]),
            ({"layers": (7, 2)}, [0, 5]),
            ({"n": 0}, []),
            ({"layers": ()}, []),
        ],
        ids=str,
    )
    def test_are_the_same_for_every_sample(self, settings, rows):
        """The toy's rows are decoder layers 2 to 7."""
        problem = toy_problem(selected=None)
        mask = Fixed(experts=5, **settings).select(problem).mask
        assert [x.nonzero().squeeze(1).tolist() for x in mask.any(-1)] == [rows] * 3
        for b, row in product(range(3), rows):
            best = problem.router[b, row].topk(5).indices.sort().values
            assert mask[b, row].nonzero().squeeze(1).tolist() == best.tolist()

    def test_a_list_is_a_tuple(self):
        assert Fixed(layers=[3, 5]) == Fixed(layers=(3, 5))

    @pytest.mark.parametrize("setting", [{"layers": "best"}, {"n": -1}, {"experts": 0}])
    def test_settings_are_checked(self, setting):
        with pytest.raises(SettingError, match="Expected"):
            Fixed(**setting)

    def test_decoder_layers_that_are_not_there(self):
        with pytest.raises(SettingError, match=r"among the MoE layers \(2, 3, 4, 5, 6, 7\), got \[1, 8\]"):
            Fixed(layers=(1, 4, 8)).select(toy_problem(selected=None))


@pytest.mark.parametrize("make", [Fixed, RandomLayers, Attribution])
class TestTooMuch:
    def test_layers(self, make):
        with pytest.raises(SettingError, match=r"at most 6 layers .*got 7; ask for fewer"):
            make(n=7).select(toy_problem(selected=None))

    def test_experts(self, make):
        with pytest.raises(SettingError, match=r"at most 24 experts .*got 25; ask for fewer"):
            make(experts=25).select(toy_problem(selected=None))

    def test_settings(self, make):
        for setting in ({"n": -1}, {"experts": 0}):
            with pytest.raises(SettingError, match=r"\.(n|experts) to be a whole number"):
                make(**setting)

    def test_what_is_no_list_of_layers(self, make):
        if make is Fixed:
            for layers in (5, "lats", (1.5,), [True]):
                with pytest.raises(SettingError, match="first, middle, all or a list of layer numbers"):
                    Fixed(layers=layers)

    def test_none_is_a_choice(self, make):
        assert not make(n=0).select(toy_problem(selected=None)).mask.any()


class TestRandomLayers:
    def test_number_and_spread(self):
        mask = RandomLayers(n=2, experts=4).select(toy_problem(B=200, K=1, selected=None)).mask
        assert (mask.any(-1).sum(-1) == 2).all()
        assert (mask.sum(-1)[mask.any(-1)] == 4).all()
        share = mask.any(-1).float().mean(0)
        assert share.min() > 0.2
        assert share.max() < 0.5

    def test_experts_are_the_routers(self):
        problem = toy_problem(selected=None)
        mask = RandomLayers(n=1, experts=4).select(problem).mask
        for b, row in mask.any(-1).nonzero().tolist():
            best = problem.router[b, row].topk(4).indices.sort().values
            assert mask[b, row].nonzero().squeeze(1).tolist() == best.tolist()


def baseline(problem, name, experts):
    """What attribution compares ω0 with, layer by layer."""
    total = problem.own.sum(-1, keepdim=True)
    if name == "zero":
        return torch.zeros_like(problem.own)
    if name == "uniform":
        best = torch.zeros_like(problem.own).scatter(-1, problem.router.topk(experts, -1).indices, 1.0)
        return best * total / experts
    mean = (problem.neighbours.weight[..., None, None] * problem.neighbour_pathways).sum(1)
    return torch.where(mean.sum(-1, keepdim=True) > 0, mean * total / mean.sum(-1, keepdim=True), problem.own)


@pytest.mark.parametrize("target", TARGETS)
class TestAttributionValues:
    @staticmethod
    def function(problem, target):
        return problem.loss if target == "neighbours" else problem.entropy

    @pytest.mark.parametrize("name", BASELINES)
    def test_integrated_gradients_are_complete(self, target, name):
        problem = toy_problem(selected=None, alone=[1])
        got = Attribution("integrated-gradients", name, target, experts=6).attribute(problem)
        f = self.function(problem, target)
        difference = f(problem.own) - f(baseline(problem, name, 6))
        torch.testing.assert_close(got.sum((1, 2)), difference, atol=1e-3, rtol=0)
        assert difference.abs().max() > 1e-2

    def test_input_x_gradient(self, target):
        problem = toy_problem(selected=None)
        omega = problem.own.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.function(problem, target)(omega).sum(), omega)
        got = Attribution("input-x-gradient", target=target, experts=6).attribute(problem)
        torch.testing.assert_close(got, problem.own * gradient)
        assert (got[problem.own == 0] == 0).all()

    @pytest.mark.parametrize("name", BASELINES)
    def test_feature_ablation_is_the_effect_of_one_layer(self, target, name):
        problem = toy_problem(selected=None)
        got = Attribution("feature-ablation", name, target, experts=6).attribute(problem)
        f, replaced = self.function(problem, target), baseline(problem, name, 6)
        for layer in range(6):
            without = problem.own.clone()
            without[:, layer] = replaced[:, layer]
            difference = f(problem.own) - f(without)
            torch.testing.assert_close(got[:, layer].sum(-1), difference, atol=1e-5, rtol=0)
            torch.testing.assert_close(got[:, layer], got[:, layer, :1].expand(-1, 24))

    @pytest.mark.parametrize("method", METHODS)
    def test_samples_do_not_mix(self, target, method):
        selector = Attribution(method, target=target, experts=6)
        together = selector.attribute(toy_problem(selected=None))
        for b in range(3):
            alone = selector.attribute(toy_problem(selected=None, only=b))
            torch.testing.assert_close(together[b : b + 1], alone, atol=1e-6, rtol=1e-5)


class TestAttributionChoice:
    @pytest.fixture
    def problem(self):
        return toy_problem(selected=None)

    def test_layers_with_the_highest_scores(self, problem):
        selector = Attribution(n=2, experts=6)
        selection = selector.select(problem)
        scores = selector.attribute(problem).abs().sum(-1)
        torch.testing.assert_close(selection.scores, scores)
        for b in range(3):
            assert selection.layers[b].nonzero().squeeze(1).tolist() == scores[b].topk(2).indices.sort().values.tolist()
        assert (selection.mask.sum(-1)[selection.layers] == 6).all()

    @pytest.mark.parametrize("rank", ["router", "attribution"])
    def test_experts_by_router_or_attribution(self, problem, rank):
        selector = Attribution("integrated-gradients", n=6, experts=3, rank=rank)
        ranking = problem.router if rank == "router" else selector.attribute(problem).abs()
        best = torch.zeros_like(ranking).scatter(-1, ranking.topk(3, -1).indices, 1.0).bool()
        assert torch.equal(selector.select(problem).mask, best)

    def test_layers_below_the_minimum_are_left(self, problem):
        selector = Attribution(n=6, experts=6, minimum=0.2)
        selection = selector.select(problem)
        share = selection.scores / selection.scores.sum(-1, keepdim=True)
        assert torch.equal(selection.layers, share >= 0.2)
        assert 0 < selection.layers.sum() < selection.layers.numel()

    def test_all_of_the_total_is_asked_for(self, problem):
        selector = Attribution(n=5, experts=6, minimum=1.0)
        assert not selector.select(problem).mask.any(), "no layer has all of it"
        only = replace(problem, loss=lambda weights: (weights[:, 3] * torch.arange(24)).sum(-1))
        layers = selector.select(only).layers
        assert [x.nonzero().squeeze(1).tolist() for x in layers] == [[3]] * 3

    def test_without_neighbours_there_is_nothing_to_attribute(self):
        problem = toy_problem(selected=None, alone=[1])
        by_loss = Attribution(n=2, experts=6).select(problem)
        assert by_loss.layers.sum(-1).tolist() == [2, 0, 2]
        assert by_loss.scores[1].tolist() == [0.0] * 6
        assert Attribution(n=2, experts=6, target="entropy").select(problem).layers.sum(-1).tolist() == [2, 2, 2]

    @pytest.mark.parametrize(
        ("settings", "passes"),
        [
            ({"method": "input-x-gradient"}, 3),
            ({"method": "integrated-gradients", "steps": 4}, 12),
            ({"method": "feature-ablation"}, 7),
        ],
        ids=lambda x: str(x),
    )
    def test_budget_is_kept(self, problem, settings, passes):
        calls = []

        def counted(weights):
            calls.append(3 if weights.requires_grad else 1)  # the way back counts two
            return original(weights)

        original, problem = problem.loss, replace(problem, loss=counted)
        Attribution(**settings, experts=6, budget=passes).select(problem)
        assert sum(calls) == passes
        calls.clear()
        with pytest.raises(SettingError, match=f"{passes} .*input-x-gradient"):
            Attribution(**settings, experts=6, budget=passes - 1).select(problem)
        assert not calls

    @pytest.mark.parametrize(
        "setting",
        [
            {"method": "shap"},
            {"baseline": "mean"},
            {"target": "label"},
            {"rank": "size"},
            {"steps": 0},
            {"minimum": 1.5},
            {"minimum": -0.1},
        ],
        ids=str,
    )
    def test_settings_are_checked(self, setting):
        with pytest.raises(SettingError, match="Expected"):
            Attribution(**setting)
