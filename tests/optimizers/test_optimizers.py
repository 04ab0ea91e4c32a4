"""Pathway optimizers: the contract, and each against its formula on the toy."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from c3po_adaptive.errors import SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.optimizers._simplex import allowed_experts, project, toward
from c3po_adaptive.optimizers.amortized import AmortizedNGD
from c3po_adaptive.optimizers.constant import Constant
from c3po_adaptive.optimizers.descent import Descent
from c3po_adaptive.optimizers.kernel_regression import KernelRegression
from c3po_adaptive.optimizers.mode_finding import ModeFinding
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.optimizers.none import NoStep
from c3po_adaptive.optimizers.oracle import Oracle
from c3po_adaptive.optimizers.random_change import RandomChange
from c3po_adaptive.problem import Problem
from c3po_adaptive.registry import in_words, new_registry
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.testing import OptimizerContract, ToyTraining, toy_problem
from c3po_adaptive.types import Selection

DESCENTS = [
    {},
    {"step": "sgd", "lr": 0.5},
    {"parametrization": "logits", "lr": 0.2},
    {"step": "sgd", "parametrization": "logits", "lr": 5.0},
    {"tolerance": 0.05, "steps": 30},
]


LEARNED = ToyTraining()
EACH = [
    *(kind(**settings) for kind in (NGD, AmortizedNGD) for settings in DESCENTS),
    *(Oracle(of=AmortizedNGD(**settings)) for settings in DESCENTS),
    *(AmortizedNGD(variant=variant) for variant in ("diagonal", "pathway")),
    *(Constant(**settings).prepare(LEARNED) for settings in DESCENTS[:3]),
    *(KernelRegression(**settings) for settings in ({}, {"points": 2}, {"alpha": 0.3}, {"alpha": 0}, {"alpha": 1.0})),
    *(ModeFinding(**settings) for settings in ({}, {"steps": 1, "alpha": 0.0})),
    ModeFinding(retriever=FaissKNN(k=2), kernel=Gaussian()),
    NoStep(),
    NoStep("core"),
    *map(RandomChange, (NGD(lr=0.1), KernelRegression(alpha=0.5), ModeFinding(), NoStep(), NoStep("core"), Oracle())),
    RandomChange(Constant()).prepare(LEARNED),
]


@dataclass(frozen=True)
class AsWritten(Descent):
    """As who adds a loss writes it, with nothing said of samples without neighbours."""

    name: ClassVar[str] = "as-written"

    def optimize(self, problem: Problem) -> torch.Tensor:
        return self.descend(lambda weights: problem.loss(weights) + weights.square().sum((1, 2)), problem)


EACH.append(AsWritten())


class TestEach(OptimizerContract):
    @pytest.fixture(params=EACH, ids=in_words)
    def optimizer(self, request):
        return request.param


class TestAmortizedNGD:
    def test_first_step_is_that_of_ngd(self):
        """The toy's loss has one gradient for all neighbours at ω0, which is what is kept."""
        settings = {"steps": 1, "lr": 0.3, "lr_end": 0.3, "step": "sgd"}
        problem = toy_problem()
        at_own = problem.own[:, None] - problem.neighbour_pathways
        problem = replace(problem, of_neighbours=lambda artifact: at_own)
        expected = NGD(**settings).optimize(problem)
        torch.testing.assert_close(AmortizedNGD(**settings).optimize(problem), expected, atol=1e-6, rtol=0)

    def test_curvature_shortens_the_way(self):
        problem = toy_problem()
        settings = {"steps": 60, "lr": 0.3, "lr_end": 0.3, "step": "sgd"}
        far, near = (AmortizedNGD(variant="diagonal", damping=d, **settings).optimize(problem) for d in (0.0, 100.0))
        assert torch.equal(far, AmortizedNGD(**settings).optimize(problem))
        assert (near - problem.own).abs().sum() < (far - problem.own).abs().sum()

    def test_lends_the_neighbours_own_changes(self):
        """Half as near, half as far; projected onto what may move."""
        problem = toy_problem()
        step = 0.01 * torch.randn(problem.neighbour_pathways.shape, generator=torch.Generator().manual_seed(0))
        problem = replace(problem, of_neighbours=lambda artifact: step)
        weight, similarity = problem.neighbours.weight, problem.neighbours.similarity
        share = (weight * similarity).sum(-1)[:, None, None]
        change = share * (weight[..., None, None] * step).sum(1)
        found = AmortizedNGD(variant="pathway").optimize(problem)
        expected = constrained(problem.own + change, allowed_experts(problem), problem.own)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)

    @pytest.mark.parametrize("settings", [{"variant": "newton"}, {"damping": -1}])
    def test_settings_are_checked(self, settings):
        with pytest.raises(SettingError, match=next(iter(settings))):
            AmortizedNGD(**settings)


def constrained(target, allowed, own):
    """The nearest valid weights to ``target [B, L, E]``, by bisection for each layer's threshold."""
    total = own.sum(-1, keepdim=True).double()
    target = target.double().masked_fill(~allowed, -torch.inf)
    low, high = target.amax(-1, keepdim=True) - total, target.amax(-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        above = (target - middle).clamp_min(0).sum(-1, keepdim=True) > total
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return torch.where(allowed.any(-1, keepdim=True), (target - high).clamp_min(0), own.double()).float()


class TestSimplex:
    @pytest.mark.parametrize("seed", range(5))
    def test_projection_is_the_nearest_valid_point(self, seed):
        from scipy.optimize import minimize

        source = torch.Generator().manual_seed(seed)
        weights, allowed = torch.randn(6, generator=source), torch.rand(6, generator=source) > 0.3
        allowed[0] = True
        own = torch.rand(6, generator=source).softmax(-1)
        got = project(weights, allowed, own)
        held = float((own * allowed).sum())
        found = minimize(
            lambda x: np.square(x - weights.numpy()).sum(),
            np.where(allowed, held / int(allowed.sum()), own),
            bounds=[(0, None) if a else (o, o) for a, o in zip(allowed, own.tolist(), strict=True)],
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(got, found.x, atol=1e-4)

    def test_valid_points_stay(self):
        own = toy_problem().own
        torch.testing.assert_close(project(own, own > 0, own), own)

    def test_a_common_shift_is_undone(self):
        weights, allowed, own = torch.rand(5, 7), torch.ones(5, 7).bool(), torch.full((5, 7), 0.1)
        there, shifted = (project(w, allowed, own) for w in (weights, weights + 3))
        torch.testing.assert_close(shifted, there, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("core", [2, 8])
    def test_allowed_are_own_and_selected_experts_of_selected_layers(self, core):
        problem = toy_problem(core=core)
        allowed = allowed_experts(problem)
        assert torch.equal(allowed[:, -2:], (problem.selection.mask | (problem.own > 0))[:, -2:])
        assert (allowed[:, -2:].sum(-1) == max(core, 4)).all()
        assert not allowed[:, :-2].any()

    def test_toward_cuts_and_keeps_the_mass(self):
        problem = toy_problem()
        moved = toward(problem, problem.router)
        expected = problem.router * allowed_experts(problem)
        expected = expected * (problem.own.sum(-1) / expected.sum(-1)).nan_to_num(posinf=0)[..., None]
        torch.testing.assert_close(moved[:, -2:], expected[:, -2:])
        assert torch.equal(moved[:, :-2], problem.own[:, :-2])
        assert torch.equal(toward(problem, torch.zeros_like(problem.own)), problem.own), "nothing is left of it"


class TestDescent:
    @pytest.mark.parametrize("core", [2, 8])
    def test_one_plain_step_is_a_projected_gradient_step(self, core):
        problem = toy_problem(core=core)
        omega = problem.own.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(omega).sum(), omega)
        expected = constrained(problem.own - 0.3 * gradient, allowed_experts(problem), problem.own)
        moved = NGD(steps=1, lr=0.3, lr_end=0.3, step="sgd").optimize(problem)
        torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("step", ["adam", "sgd"])
    def test_reaches_the_nearest_valid_point_to_the_neighbours(self, step):
        """The toy's loss is a distance, so its constrained minimum is a projection."""
        problem = toy_problem()
        mean = (problem.neighbours.weight[..., None, None] * problem.neighbour_pathways).sum(1)
        best = constrained(mean, allowed_experts(problem), problem.own)
        lr = {"adam": 0.02, "sgd": 0.5}[step]
        omega = NGD(steps=300, lr=lr, step=step).optimize(problem)
        torch.testing.assert_close(omega, best, atol=2e-3, rtol=0)

    @pytest.mark.parametrize("parametrization", ["projection", "logits"])
    @pytest.mark.parametrize("step", ["adam", "sgd"])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_gradients_of_one_sign_do_not_stop_it(self, step, parametrization, sign):
        """A slope common to all experts means nothing where the mass is kept."""
        problem = toy_problem()
        slope = sign + 0.1 * torch.rand(problem.own.shape, generator=torch.Generator().manual_seed(0))

        def loss(weights):
            return (weights * slope).sum((1, 2))

        problem = replace(problem, loss=loss)
        lr = {"adam": 0.02, "sgd": 0.5}[step] * (200 if parametrization == "logits" else 1)
        omega = NGD(steps=5, lr=lr, step=step, parametrization=parametrization).optimize(problem)
        moved = (omega - problem.own).abs().amax(-1)
        assert (moved[:, -2:] > 1e-3).all()
        assert (loss(omega) < loss(problem.own) - 1e-4).all()

    def test_does_not_push_what_is_already_zero(self):
        """With only the used experts able to move, one up and one down, whatever the unused ones' slope."""
        problem = toy_problem(B=1, L=1, E=4, top_k=2, core=4, K=1, selected=[0])
        used = problem.own[0, 0] > 0
        slope = torch.where(used, torch.tensor([1.0, 1.1, 1.2, 1.3]), torch.tensor(5.0))
        problem = replace(problem, loss=lambda weights: (weights * slope).sum((1, 2)))
        omega = NGD(steps=1, lr=0.01).optimize(problem)
        change = (omega - problem.own)[0, 0][used]
        assert change.tolist() == pytest.approx([0.01, -0.01], abs=1e-6)

    @pytest.mark.parametrize("settings", DESCENTS, ids=str)
    def test_lowers_every_samples_loss(self, settings):
        problem = toy_problem()
        assert (problem.loss(NGD(**settings).optimize(problem)) < problem.loss(problem.own)).all()
        labeled = toy_problem(labeled=True)
        omega = Oracle(of=NGD(**settings)).optimize(labeled)
        assert (labeled.label_loss(omega) < labeled.label_loss(labeled.own)).all()

    def test_tolerance_stops_a_sample_on_its_own(self):
        problem = toy_problem()
        calls = []

        def counted(weights, running=None):
            calls.append(1)
            return problem.loss(weights, running)

        NGD(steps=50, lr=0.5, step="sgd", tolerance=0.2).optimize(replace(problem, loss=counted))
        assert 2 <= len(calls) < 50
        calls.clear()
        NGD(steps=50, lr=0.5, step="sgd").optimize(replace(problem, loss=counted))
        assert len(calls) == 50

    def test_a_sample_that_stops_keeps_its_best(self):
        """Told losses that fall, fall and rise, it returns the weights of the second."""
        problem, told, seen = toy_problem(), iter([1.0, 0.5, 0.9, 0.8]), []

        def loss(weights, running=None):
            seen.append(weights.detach().clone())
            slope = weights[..., 0].sum(-1)
            return slope - slope.detach() + next(told)

        omega = NGD(steps=30, lr=0.01, step="sgd", tolerance=0.01).optimize(replace(problem, loss=loss))
        assert len(seen) == 3
        assert torch.equal(omega, seen[1])
        assert not torch.equal(omega, problem.own)

    @pytest.mark.parametrize("values", [[1.0, 0.5, 0.499], [-0.5, -1.0, -1.001]])
    def test_tolerance_is_a_share_of_a_loss_of_either_sign(self, values):
        """The third is lower by less than 1 %: no fourth is asked for."""
        told, asked = iter(values), []

        def loss(weights, running=None):
            asked.append(1)
            return 0 * weights.sum((1, 2)) + next(told)

        NGD(steps=30, lr=0.01, step="sgd", tolerance=0.01).optimize(replace(toy_problem(), loss=loss))
        assert len(asked) == 3

    def test_the_last_step_has_the_last_rate(self):
        rates = []

        class Watched(torch.optim.SGD):
            def step(self, *args, **kwargs):
                rates.append(self.param_groups[0]["lr"])
                return super().step(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim, "SGD", Watched)
            NGD(steps=4, lr=0.1, lr_end=0.01, step="sgd").optimize(toy_problem())
        assert rates == pytest.approx([0.1, 0.0775, 0.0325, 0.01])

    def test_steps_are_all_it_pays_for(self):
        calls = []
        problem = replace(toy_problem(), loss=lambda w: calls.append(1) or w.square().sum((1, 2)))
        NGD(steps=7).optimize(problem)
        assert len(calls) == 7
        nothing = replace(problem, selection=Selection(torch.zeros_like(problem.selection.mask)))
        NGD(steps=7).optimize(nothing)
        NGD(steps=0).optimize(problem)
        assert len(calls) == 7

    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"steps": -1}, "whole number >= 0, got -1"),
            ({"steps": 1.5}, r"got 1\.5"),
            ({"lr": 0.1, "lr_end": 0.2}, "lr_end to be a finite number >= 0 and <= 0.1, got 0.2"),
            ({"lr": -1.0}, r"\.lr to be a finite number >= 0"),
            ({"lr": "1e-3"}, r"got '1e-3'; the paper uses 1e-2"),
            ({"step": "newton"}, "'adam', 'sgd', got 'newton'"),
            ({"parametrization": "sphere"}, "'projection', 'logits', got 'sphere'"),
            ({"tolerance": 1.5}, "tolerance to be a finite number >= 0 and <= 1"),
        ],
    )
    @pytest.mark.parametrize("method", [NGD, AmortizedNGD])
    def test_settings_are_checked(self, method, setting, message):
        with pytest.raises(SettingError, match=message):
            method(**setting)

    def test_oracle_needs_a_label(self):
        with pytest.raises(SettingError, match="without labels"):
            Oracle().optimize(toy_problem())

    @pytest.mark.parametrize("settings", DESCENTS, ids=str)
    def test_oracle_takes_the_steps_of_the_optimizer_that_it_bounds(self, settings):
        """Told the label's loss in the place of its neighbours', that optimizer goes to the same place."""
        problem = toy_problem(labeled=True)
        told = replace(problem, loss=problem.label_loss)
        assert torch.equal(Oracle(of=NGD(**settings)).optimize(problem), NGD(**settings).optimize(told))

    def test_oracle_bounds_what_descends(self):
        for other in (KernelRegression(), "ngd"):
            with pytest.raises(SettingError, match=r"oracle\.of to be a SteppingOptimizer, got"):
                Oracle(of=other)
        with pytest.raises(
            SettingError, match=r'got .lr.; there is of; it is a parameter of its part: \{"of": \{"name": "ngd", "lr"'
        ):
            new_registry(installed=False).create("optimizer", {"name": "oracle", "lr": 0.1})

    def test_selection_comes_first(self):
        with pytest.raises(ValueError, match="call a LayerSelector first"):
            NGD().optimize(toy_problem(selected=None))


class TestKernelRegressionFormula:
    @pytest.fixture
    def problem(self) -> Problem:
        return toy_problem()

    @staticmethod
    def mean(problem):
        """The neighbours' mean by kernel weight, on allowed experts, with the layer's mass; in loops."""
        there = problem.own.clone()
        allowed = problem.selection.mask | (problem.own > 0)
        for b in range(there.shape[0]):
            for layer in problem.selection.layers[b].nonzero().squeeze(1):
                total = sum(
                    w * p[layer]
                    for w, p in zip(problem.neighbours.weight[b], problem.neighbour_pathways[b], strict=True)
                )
                cut = total * allowed[b, layer]
                there[b, layer] = cut / cut.sum() * problem.own[b, layer].sum()
        return there

    @pytest.mark.parametrize("alpha", [0, 0.25, 1])
    def test_moves_towards_the_mean(self, problem, alpha):
        expected = alpha * problem.own + (1 - alpha) * self.mean(problem)
        torch.testing.assert_close(KernelRegression(alpha=alpha).optimize(problem), expected)

    def test_search_takes_the_best_of_the_grid_for_each_sample(self, problem):
        hidden = torch.tensor([0.3, 0.0, 1.0])[:, None, None]  # the α that each sample's loss asks for
        goal = hidden * problem.own + (1 - hidden) * self.mean(problem)
        problem = replace(problem, loss=lambda weights: (weights - goal).square().sum((1, 2)))
        best = torch.tensor([0.25, 0.0, 1.0])[:, None, None]
        expected = best * problem.own + (1 - best) * self.mean(problem)
        omega = KernelRegression(points=5).optimize(problem)
        torch.testing.assert_close(omega, expected)
        assert torch.equal(omega[2], problem.own[2])

    @pytest.mark.parametrize("setting", [{"alpha": "best"}, {"alpha": 1.1}, {"alpha": -0.1}, {"points": 1}])
    def test_settings_are_checked(self, setting):
        with pytest.raises(SettingError, match="Expected"):
            KernelRegression(**setting)


class TestModeFindingFormula:
    @staticmethod
    def step(problem, alpha, k, scale):
        """One mean shift: cosine neighbours and Gaussian weights over the selected layers, mean on allowed experts."""
        omega = problem.own.clone()
        allowed = problem.selection.mask | (problem.own > 0)
        for b in range(omega.shape[0]):
            rows = problem.selection.layers[b].nonzero().squeeze(1)
            here = problem.own[b, rows].flatten().double()
            references = problem.reference_pathways[:, rows].flatten(1).double()
            similarity = torch.nn.functional.cosine_similarity(references, here[None], -1)
            if problem.excluded:
                similarity[list(problem.excluded[b])] = -2
            near = similarity.topk(k).indices
            weight = (-(references[near] - here).square().sum(1) / (2 * scale**2)).exp()
            for layer in rows:
                mean = (weight[:, None] * problem.reference_pathways[near, layer]).sum(0) * allowed[b, layer]
                mean = mean / mean.sum() * problem.own[b, layer].sum()
                omega[b, layer] = alpha * problem.own[b, layer] + (1 - alpha) * mean
        return omega.float()

    @pytest.mark.parametrize("excluded", [(), (frozenset({0, 1}), frozenset(), frozenset({4}))])
    def test_one_step(self, excluded):
        problem = replace(toy_problem(), excluded=excluded)
        mask = problem.selection.mask.clone()
        mask[1, -1] = False  # samples may have different layers
        problem = replace(problem, selection=Selection(mask))
        method = ModeFinding(steps=1, alpha=0.3, retriever=FaissKNN(k=4), kernel=Gaussian(0.2))
        torch.testing.assert_close(method.optimize(problem), self.step(problem, 0.3, 4, 0.2), atol=1e-5, rtol=1e-4)

    def test_steps_follow_each_other(self):
        problem = toy_problem()
        method = ModeFinding(steps=1, alpha=0.3, retriever=FaissKNN(k=4), kernel=Gaussian(0.2))
        once = method.optimize(problem)
        twice = replace(method, steps=2).optimize(problem)
        allowed = replace(problem, selection=Selection(allowed_experts(problem)))
        torch.testing.assert_close(twice, method.optimize(replace(allowed, own=once)), atol=1e-5, rtol=0)
        assert not torch.equal(once, twice)

    def test_mass_is_kept_where_a_weight_is_that_of_the_mean(self):
        """Such a weight moves with the others of its layer, whose experts that are not allowed give theirs away."""
        problem = toy_problem()
        shared = problem.own.argmax(-1, keepdim=True)  # B L 1
        references = problem.reference_pathways[:3].scatter(-1, shared, problem.own.gather(-1, shared))
        mask = problem.own > 0
        problem = replace(problem, reference_pathways=references, excluded=(), selection=Selection(mask))
        omega = ModeFinding(retriever=FaissKNN(k=1)).optimize(problem)
        assert not torch.equal(omega, problem.own)
        torch.testing.assert_close(omega.sum(-1), problem.own.sum(-1), atol=1e-5, rtol=0)

    def test_alone_in_the_world_nothing_moves(self):
        problem = toy_problem()
        everyone = replace(problem, excluded=(frozenset(range(10)),) * 3)
        assert torch.equal(ModeFinding().optimize(everyone), problem.own)
        for few in (0, 1):
            alone = replace(problem, reference_pathways=problem.reference_pathways[:few], excluded=())
            assert torch.equal(ModeFinding().optimize(alone), problem.own)

    @pytest.mark.parametrize("setting", [{"steps": -1}, {"alpha": 1.5}, {"alpha": -0.5}])
    def test_settings_are_checked(self, setting):
        with pytest.raises(SettingError, match=r"mode-finding\.(steps|alpha) to be"):
            ModeFinding(**setting)


class TestControls:
    def test_core_is_the_router_over_core_experts(self):
        problem = toy_problem()
        omega = NoStep("core").optimize(problem)
        assert torch.equal(omega, toward(problem, problem.router))
        assert ((omega[:, -2:] > 0).sum(-1) == 8).all()

    def test_settings_are_checked(self):
        with pytest.raises(SettingError, match="'own', 'core', got 'all'"):
            NoStep("all")
