"""Captum's methods on functions whose layers' benefits are set by hand, against closed forms."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from pictures.test_figures import squares, words
from remixing.test_remixer import remixer
from routing.naive import SCOPES
from routing.toys import questions
from scipy.stats import ttest_1samp

from c3po_adaptive import Attribution, PathwayFunction
from c3po_adaptive.attribution import CAPTUM, METHODS, Attributed, attribute, baseline_pathway
from c3po_adaptive.attribution.weight_groups import grouped
from c3po_adaptive.errors import SettingError, ShapeError
from c3po_adaptive.optimizers.none import NoStep
from c3po_adaptive.routing.mixing import core
from c3po_adaptive.selectors.gradient import Gradient
from c3po_adaptive.tasks.formats import Letter
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.types import Pathway, Selection

BENEFITS = torch.tensor([0.0, 3.0, 0.5, -2.0, 0.0, 1.0])  # of six layers
COMPLETE = [name for name, method in METHODS.items() if method.complete]
SETTINGS = {"experts": 6, "draws": 40, "steps": 50}


def slopes(problem):
    """``[L, E]`` by hand: layer l's k-th expert is worth benefit_l · (k + 1) / E."""
    experts = problem.own.shape[-1]
    return BENEFITS[:, None] * (torch.arange(experts) + 1) / experts


def linear(problem):
    return lambda weights, running=None: (weights * slopes(problem)).sum((1, 2))


def curved(problem):
    """Each layer's part squared: layers do not depend on each other, experts of a layer do."""
    return lambda weights, running=None: (BENEFITS * weights.square().sum(-1)).sum(-1)


def coupled(problem):
    """Layers 1 and 3 matter only together: a Shapley value gives each half of it."""
    return lambda weights, running=None: weights[:, 1, :4].sum(-1) * weights[:, 3, :4].sum(-1)


@pytest.fixture
def problem():
    return toy_problem(selected=None, alone=[1])


@pytest.fixture(params=["uniform", "neighbours", "zero"])
def baseline(request, problem):
    return request.param, baseline_pathway(problem, request.param, 6)


class TestClosedForms:
    @pytest.mark.parametrize("method", [*COMPLETE, "feature-ablation"])
    def test_linear(self, problem, baseline, method):
        """Everything that compares with a baseline gives each layer its slope times its distance from there."""
        name, there = baseline
        got = attribute(problem, method, of=linear, baseline=name, **SETTINGS).values
        wanted = (slopes(problem) * (problem.own - there)).sum(-1)
        torch.testing.assert_close(got.sum(-1), wanted, atol=1e-3, rtol=0)
        assert wanted.abs().max() > 0.05

    @pytest.mark.parametrize("method", [*COMPLETE, "feature-ablation"])
    def test_separate_layers(self, problem, baseline, method):
        name, there = baseline
        got = attribute(problem, method, of=curved, baseline=name, **SETTINGS).values
        wanted = BENEFITS * (problem.own.square().sum(-1) - there.square().sum(-1))
        torch.testing.assert_close(got.sum(-1), wanted, atol=1e-3, rtol=0)

    def test_by_expert(self, problem, baseline):
        """Linear in each weight: taking one expert away is its slope times its distance, the rest of a layer shares."""
        name, there = baseline
        for method in ("feature-ablation", "shapley-sampling"):
            settings = SETTINGS | {"draws": 2}
            got = attribute(problem, method, of=linear, baseline=name, groups="expert", **settings).values
            each = slopes(problem) * (problem.own - there)
            core = problem.ranking.argsort(-1, descending=True).argsort(-1) < 6
            torch.testing.assert_close(got[core], each[core], atol=1e-4, rtol=0)
            torch.testing.assert_close(got.sum(-1), each.sum(-1), atol=1e-4, rtol=0)

    def test_layers_that_need_each_other(self, problem, baseline):
        """f = a·b: the Shapley value of a is (a − a₀)(b + b₀)/2; ablation gives each (a − a₀)·b, too much together."""
        name, there = baseline
        (a, b), (a0, b0) = ([w[:, row, :4].sum(-1) for row in (1, 3)] for w in (problem.own, there))
        shapley = torch.stack([(a - a0) * (b + b0) / 2, (b - b0) * (a + a0) / 2], 1)
        ablated = torch.stack([(a - a0) * b, (b - b0) * a], 1)
        for method in ("kernel-shap", "integrated-gradients"):  # along a straight line f is quadratic: the same value
            got = attribute(problem, method, of=coupled, baseline=name, experts=6, draws=80, steps=50)
            torch.testing.assert_close(got.values.sum(-1)[:, [1, 3]], shapley, atol=2e-3, rtol=0)
        sampled = attribute(problem, "shapley-sampling", of=coupled, baseline=name, experts=6, draws=300)
        torch.testing.assert_close(sampled.values.sum(-1)[:, [1, 3]], shapley, atol=0.1 * shapley.abs().max(), rtol=0)
        got = attribute(problem, "feature-ablation", of=coupled, baseline=name, experts=6)
        torch.testing.assert_close(got.values.sum(-1)[:, [1, 3]], ablated, atol=1e-5, rtol=0)

    def test_gradients(self, problem):
        found = attribute(problem, "saliency", of=linear, experts=24).values
        torch.testing.assert_close(found, slopes(problem).expand(3, 6, 24))
        few = attribute(problem, "saliency", of=linear, experts=6).values
        mixable = core(problem.ranking, 6) | (problem.own > 0)
        torch.testing.assert_close(few, found * mixable)  # what others would do is not known
        got = attribute(problem, "input-x-gradient", of=linear).values
        torch.testing.assert_close(got, slopes(problem) * problem.own)


class TestCompleteness:
    @pytest.mark.parametrize("method", COMPLETE)
    @pytest.mark.parametrize("of", ["neighbours", "entropy", "margin"])
    def test_holds(self, problem, baseline, method, of):
        name, there = baseline
        found = attribute(problem, method, of=of, baseline=name, delta=True, **SETTINGS)
        assert found.delta.abs().max() < 1e-3
        f = PathwayFunction(problem, of)
        difference = f(problem.own, torch.arange(3)) - f(there, torch.arange(3))
        torch.testing.assert_close(found.values.sum((1, 2)), difference, atol=1e-3, rtol=0)

    @pytest.mark.parametrize("method", sorted(METHODS.keys() - set(COMPLETE)))
    def test_is_not_claimed_where_it_is_not_defined(self, problem, method):
        assert attribute(problem, method, experts=6, delta=True).delta is None


class TestPasses:
    @pytest.mark.parametrize(("method", "passes"), [
        ("saliency", 3), ("input-x-gradient", 3), ("integrated-gradients", 12), ("feature-ablation", 7),
        ("shapley-sampling", 13), ("kernel-shap", 14),
    ])  # fmt: skip
    def test_budget_is_what_is_run(self, problem, method, passes):
        settings = {"experts": 6, "steps": 4, "draws": 2}
        found = attribute(problem, method, budget=passes, **settings)
        assert found.passes == pytest.approx(passes)
        calls = []
        asked = replace(problem, loss=lambda *x: calls.append(x))
        with pytest.raises(SettingError, match=f"budget={passes - 1} tail passes, {method} takes {passes} here; raise"):
            attribute(asked, method, budget=passes - 1, **settings)
        assert not calls

    def test_below_one(self, problem):
        with pytest.raises(SettingError, match="budget of at least one tail pass, got 0"):
            attribute(problem, budget=0)

    def test_only_the_samples_asked_for_are_run(self, problem):
        seen = []

        def loss(weights, running=None):
            seen.append(running)
            return problem.loss(weights, running)

        f = PathwayFunction(replace(problem, loss=loss))
        rows = torch.tensor([2, 0, 2])
        values = f(problem.own[rows], rows)
        torch.testing.assert_close(values, problem.loss(problem.own)[rows])
        assert [r.tolist() for r in seen] == [[True, False, True], [False, False, True]]


class TestSamples:
    @pytest.mark.parametrize(("method", "groups"), [
        *((name, "layer") for name in METHODS), *((name, "expert") for name, m in METHODS.items() if m.by_group),
    ])  # fmt: skip
    def test_do_not_mix(self, method, groups):
        settings = {"experts": 6, "groups": groups, "draws": 20 if groups == "layer" else 2, "seed": 3}
        together = attribute(toy_problem(selected=None), method, **settings).values
        for b in range(3):
            alone = attribute(toy_problem(selected=None, only=b), method, **settings).values
            torch.testing.assert_close(together[b : b + 1], alone, atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize("method", ["shapley-sampling", "kernel-shap"])
    def test_what_is_drawn_is_settled_by_the_seed(self, problem, method):
        def drawn(seed):
            return attribute(problem, method, of=coupled, experts=6, draws=5, seed=seed).values

        state = torch.get_rng_state()
        assert torch.equal(drawn(0), drawn(0))
        assert not torch.equal(drawn(0), drawn(1))
        assert torch.equal(torch.get_rng_state(), state)


class TestWhatHasNoUse:
    """Two of them would be compared in vain."""

    @pytest.mark.parametrize("make", [Attribution, lambda **s: attribute(toy_problem(selected=None), **s)])
    def test_is_refused(self, make):
        for method in ("saliency", "input-x-gradient"):
            with pytest.raises(SettingError, match=f"no baseline for {method}.*it is for integrated"):
                make(method=method, baseline="zero")
            with pytest.raises(SettingError, match=f"no groups for {method}.*they are for feature-ablation"):
                make(method=method, groups="expert")

    def test_wrong_kinds(self, problem):
        for settings, message in (
            ({"steps": "8"}, "steps to be a whole number from 1 on, got '8'"),
            ({"seed": None}, "seed to be a whole number from 0 on, got None"),
            ({"budget": "8"}, "budget of at least one tail pass, got '8'"),
            ({"method": ["saliency"]}, r"method .*got \['saliency'\]; did you mean 'saliency'"),
            ({"method": "feature-ablation", "baseline": [0.0]}, "by name, as a number or as a tensor, got list"),
        ):
            with pytest.raises(SettingError, match=message):
                attribute(problem, experts=6, **settings)
        with pytest.raises(SettingError, match=r"experts from 1 to 24, all of a layer \(or None\), got '6'"):
            attribute(problem, experts="6")
        with pytest.raises(SettingError, match="two groups at least for kernel-shap, got one"):
            attribute(toy_problem(L=1, selected=None), "kernel-shap")
        with pytest.raises(SettingError, match=r"Expected a problem, as c3po\.problem.* got str"):
            attribute("a question")
        with pytest.raises(ShapeError, match=r"one value for each of 3 samples, got shape \(\)"):
            attribute(problem, of=lambda problem: lambda weights, running=None: weights.sum())
        not_finite = torch.full_like(problem.own, torch.nan)
        with pytest.raises(ShapeError, match="got some that are not finite"):
            attribute(problem, "feature-ablation", baseline=not_finite)
        alone = replace(problem, reference_pathways=problem.reference_pathways[:0])
        with pytest.raises(SettingError, match="Expected references for the baseline neighbours"):
            attribute(alone, "feature-ablation", baseline="neighbours")
        precise = attribute(problem, "feature-ablation", baseline=torch.zeros_like(problem.own).double())
        assert torch.equal(precise.values, attribute(problem, "feature-ablation", baseline="zero").values)


@pytest.mark.parametrize("method", METHODS)
def test_no_limit_of_experts_is_all_of_them(problem, method):
    found = [attribute(problem, method, experts=experts).values for experts in (None, 24)]
    assert torch.equal(*found)


def test_groups(problem):
    by_layer, by_expert = (grouped(problem, name, 6) for name in ("layer", "expert"))
    assert by_layer.unique().tolist() == list(range(6))
    assert by_expert.unique().tolist() == list(range(6 * 7))
    for b, row in ((0, 0), (2, 5)):
        best = problem.ranking[b, row].topk(6).indices
        assert by_expert[b, row, best].tolist() == [row * 7 + k for k in range(6)]
        assert (by_expert[b, row] == row * 7 + 6).sum() == 18
    assert grouped(problem, "expert", 24).unique().numel() == 6 * 24


CAPTUMS = {
    "Saliency": "saliency",
    "InputXGradient": "input-x-gradient",
    "IntegratedGradients": "integrated-gradients",
    "FeatureAblation": "feature-ablation",
    "ShapleyValueSampling": "shapley-sampling",
    "KernelShap": "kernel-shap",
}


class TestAsCaptumHasIt:
    """Names of its classes, numbers as baselines, a choice as what is attributed."""

    def test_names_of_classes(self, problem):
        import captum.attr

        assert dict(CAPTUM) == CAPTUMS
        assert set(CAPTUM.values()) == METHODS.keys()
        for theirs, ours in CAPTUM.items():
            assert hasattr(captum.attr, theirs)
            found = attribute(problem, theirs, experts=6, seed=1)
            assert torch.equal(found.values, attribute(problem, ours, experts=6, seed=1).values)
            assert found.method == ours

    def test_a_selector_is_the_same_under_either_name(self):
        assert Attribution(method="IntegratedGradients") == Attribution(method="integrated-gradients")

    @pytest.mark.parametrize("number", [0, 0.0, 0.25, np.float32(0.25)])
    def test_a_number_is_every_weight_of_the_baseline(self, problem, number):
        got = attribute(problem, "IntegratedGradients", of=linear, baseline=number, **SETTINGS)
        wanted = slopes(problem) * (problem.own - float(number))
        torch.testing.assert_close(got.values.sum(-1), wanted.sum(-1), atol=1e-3, rtol=0)
        if number == 0:
            zero = attribute(problem, "integrated-gradients", of=linear, baseline="zero", **SETTINGS)
            assert torch.equal(got.values, zero.values)

    @pytest.mark.parametrize("number", [-0.1, float("nan"), float("inf")])
    def test_a_number_that_no_weight_can_be(self, problem, number):
        with pytest.raises(SettingError, match="finite number from 0 on, got"):
            attribute(problem, "IntegratedGradients", baseline=number)
        with pytest.raises(SettingError, match="as a number or as a tensor, got bool"):
            attribute(problem, "IntegratedGradients", baseline=True)

    @pytest.mark.parametrize("of", [2, [0, 2, 1], (1, 1, 0)])
    def test_a_choice_by_its_place(self, problem, of):
        """The gradient of its log-probability, by hand."""
        places = torch.tensor([of] * 3 if isinstance(of, int) else of)
        weights = problem.own.clone().requires_grad_()
        logs = torch.stack([problem.scores(weights)[b].log_softmax(0)[places[b]] for b in range(3)])
        (wanted,) = torch.autograd.grad(logs.sum(), weights)
        found = attribute(problem, "Saliency", of=of, experts=24).values
        torch.testing.assert_close(found, wanted)
        assert wanted.abs().max() > 0.01

    def test_a_choice_by_its_text(self, problem):
        known = replace(problem, choices=(("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")))
        for of, places in (("a", [0, 2, 1]), (["a", "b", 2], [0, 0, 2])):
            found, wanted = (attribute(known, "Saliency", of=x, experts=6).values for x in (of, places))
            assert torch.equal(found, wanted)
        with pytest.raises(
            SettingError, match=r"choice of sample 0 \('a', 'b', 'c'\), got 'd'; there are neighbours, "
        ):
            attribute(known, of="d")
        with pytest.raises(SettingError, match=r"not known here: name it by its place.*'margn'; did you mean 'margin'"):
            attribute(problem, of="margn")

    @pytest.mark.parametrize(("of", "message"), [
        (3, "choice from 0 to 2 of sample 0, got 3"), (-1, "from 0 to 2 of sample 0, got -1"),
        ([0, 1], "one choice for each of 3 samples, got 2"), (True, "its place or its text.*got True"),
        (1.0, "its place or its text.*got 1.0"), ([0, 1, None], "got None"),
    ], ids=str)  # fmt: skip
    def test_no_choice(self, problem, of, message):
        with pytest.raises(SettingError, match=message):
            attribute(problem, of=of)

    def test_a_choice_that_only_other_samples_have(self, problem):
        scores = problem.own_scores.clone()
        scores[1, 2] = -torch.inf
        with pytest.raises(SettingError, match="from 0 to 1 of sample 1, got 2"):
            attribute(replace(problem, own_scores=scores), of=2)

    @pytest.mark.parametrize("format", ["cloze", "letter"])
    def test_choices_of_a_real_question(self, format):
        """Of two to four choices, by text, against what the model itself says, one step along the gradient."""
        asked = questions(3, "t")
        alone = {"references": None, "optimizer": NoStep(), "selector": Gradient(n=2, experts=6, of="entropy")}
        c3po = remixer("olmoe", scope="last", format=format, **alone)
        problem = c3po.problem(asked)
        assert problem.choices == tuple(q.choices for q in asked)
        last = [q.choices[-1] for q in asked]
        found = attribute(problem, "InputXGradient", of=last, experts=6)
        model, states = c3po.model, c3po.model.prefill([c3po.model.encode(q, format) for q in asked])

        def said(weights):
            pathway = Pathway(weights, problem.own, problem.layers, "last")
            return torch.stack([s.log_softmax(0)[-1] for s in model.choice_scores(states, pathway)])

        step = 1e-3
        slope = (said(problem.own * (1 + step)) - said(problem.own)) / step
        torch.testing.assert_close(found.values.sum((1, 2)), slope, atol=5e-3, rtol=0.1)
        assert slope.abs().max() > 0.01


class TestShown:
    def test_in_about_ten_lines(self, problem):
        found = attribute(problem, "integrated-gradients", of=linear, baseline=0.0, delta=True, **SETTINGS)
        shown = str(found)
        assert shown == repr(found)
        assert len(shown.splitlines()) <= 10
        assert max(map(len, shown.splitlines())) <= 100
        assert "integrated-gradients of linear, against 0.0" in shown
        assert "3 samples × 6 layers × 24 experts" in shown
        assert re.search(r"completeness: the sum is off .* by \d\.\de-\d\d at most", shown)
        strongest = found.table()[0]
        assert f"layer {strongest['layer']} " in shown.splitlines()[4]
        assert "+" in shown and "−" in shown

    def test_says_what_is_not_known(self, problem):
        assert "not looked at (delta=True)" in str(attribute(problem, "kernel-shap", experts=6))
        by_layer = str(attribute(problem, "feature-ablation", of=[0, 1, 2], experts=6))
        assert "not defined for feature-ablation" in by_layer
        assert "of choice 0, 1, 2, against uniform" in by_layer
        assert " experts " not in by_layer.split("signed sums:")[1], "it takes whole layers away"
        assert "against" not in str(attribute(problem, "saliency", experts=6))

    def test_table(self, problem):
        found = attribute(problem, "input-x-gradient", of=linear)
        rows = found.table()
        assert sorted(row["layer"] for row in rows) == list(found.decoder_layers) == list(problem.layers)
        assert [row["strength"] for row in rows] == sorted((row["strength"] for row in rows), reverse=True)
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        for row in rows:
            at = problem.layers.index(row["layer"])
            each = (slopes(problem) * problem.own)[:, at]
            assert row["strength"] == pytest.approx(each.abs().sum(-1).mean().item(), abs=1e-6)
            assert row["sum"] == pytest.approx(each.mean(0).sum().item(), abs=1e-6)
            if row["strength"]:
                best = each.abs().mean(0).argsort(descending=True)[:3].tolist()
                assert list(row["experts"]) == best
                assert row["experts"][best[0]] == pytest.approx(each.mean(0)[best[0]].item(), abs=1e-6)
        assert [row["experts"] for row in attribute(problem, "kernel-shap", experts=6).table()] == [{}] * 6

    def test_nothing_at_all(self, problem):
        found = attribute(
            problem, "input-x-gradient", of=lambda problem: lambda weights, running=None: 0 * weights.sum((1, 2))
        )
        assert {row["share"] for row in found.table()} == {0.0}
        assert "of <lambda>" in str(found)

    def test_one_sample(self, problem):
        found = attribute(problem, "integrated-gradients", of=linear, delta=True, **SETTINGS)
        assert len(found) == 3
        assert len(list(found)) == 3
        assert torch.equal(found[1].values, found.values[1:2])
        assert torch.equal(found[-1].delta, found.delta[2:])
        assert torch.equal(found[:2].strength, found.strength[:2])
        assert torch.equal(found[:2].sums, found.sums[:2])
        assert "1 sample ×" in str(found[0])
        with pytest.raises(IndexError, match="from 0 to 2, got 3"):
            found[3]

    def test_strength_has_no_sign_and_sums_have(self, problem):
        found = attribute(problem, "input-x-gradient", of=linear)
        torch.testing.assert_close(found.strength, found.values.abs().sum(-1))
        torch.testing.assert_close(found.sums, found.values.sum(-1))
        with pytest.raises(AttributeError, match=r"called strength .* unsigned; sums"):
            found.layers  # noqa: B018
        with pytest.raises(AttributeError, match="no attribute 'layer'"):
            found.layer  # noqa: B018

    def test_units(self, problem):
        units = {
            ("input-x-gradient", "entropy"): "nats",
            ("input-x-gradient", 0): "nats",
            ("saliency", "entropy"): "nats per unit of weight",
            ("input-x-gradient", linear): "units of f",
        }
        assert {key: attribute(problem, key[0], of=key[1]).unit for key in units} == units


def made(values, by_layer=False):
    """An attribution of these values ``[B, L, E]``."""
    layers = tuple(range(4, 4 + values.shape[1]))
    return Attributed(values, 3, None, "input-x-gradient", "margin", None, layers, by_layer)


def of_opposite_signs(samples=20):
    """Layer 4 pulls half of the samples up and half down, layer 5 all of them up a little."""
    generator = torch.Generator().manual_seed(0)
    values = 0.01 * torch.randn(samples, 2, 3, generator=generator)
    values[:, 0, 1] += torch.tensor([1.0, -1.0]).repeat(samples // 2)
    values[:, 1, 2] += 0.3
    return values


class TestIntervals:
    def test_are_those_over_samples(self):
        values = of_opposite_signs()
        for row in made(values).table():
            at = row["layer"] - 4
            sums, strength = values[:, at].sum(-1).numpy(), values.abs().sum(-1).numpy()
            expected = ttest_1samp(sums, 0).confidence_interval()
            assert row["sum_interval"] == pytest.approx((expected.low, expected.high), rel=1e-4)
            resampled = [strength[rows] for rows in np.random.default_rng(0).integers(20, size=(4000, 20))]
            shares = [part[:, at].mean() / part.sum(-1).mean() for part in resampled]
            low, high = np.quantile(shares, [0.025, 0.975])
            assert row["share_interval"] == pytest.approx((low, high), abs=0.2 * (high - low))

    def test_of_one_sample_there_are_none(self):
        found = made(of_opposite_signs()[:1])
        assert (
            {row["share_interval"] for row in found.table()} == {row["sum_interval"] for row in found.table()} == {None}
        )
        assert "[" not in str(found)

    def test_what_cancels_is_strong_and_undecided(self):
        """What the picture showed as nothing and the print as the strongest: both say both now."""
        found = made(of_opposite_signs())
        strongest, weaker = found.table()
        assert (strongest["layer"], weaker["layer"]) == (4, 5)
        assert strongest["share"] > 0.7
        assert strongest["sum_interval"][0] < 0 < strongest["sum_interval"][1]
        assert 0 < weaker["sum_interval"][0] < 0.3 < weaker["sum_interval"][1]
        assert next(iter(strongest["experts"])) == 1, "by strength, not by a mean that cancels"
        line = next(line for line in str(found).splitlines() if "layer 4" in line)
        assert re.search(r"7\d\.\d% \[7\d\.\d, 7\d\.\d\] .* \[−0\.\d+, \+0\.\d+\]  experts 1 ", line)


class TestPlot:
    def read(self, axes):
        """Of a panel of bars its widths, intervals and labels."""
        lines = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
        widths = [bar.get_width() for bar in axes.patches]
        return widths, [tuple(line.get_xdata()) for line in lines], [text.get_text() for text in axes.get_yticklabels()]

    @pytest.mark.parametrize("by_layer", [False, True])
    def test_says_what_the_table_says(self, by_layer, tmp_path):
        found = made(of_opposite_signs(), by_layer)
        figure = found.plot()
        figure.savefig(tmp_path / "figure.png")
        rows = sorted(found.table(), key=lambda row: row["layer"])
        share, signed = (self.read(axes) for axes in figure.axes[:2])
        assert share[0] == pytest.approx([100 * row["share"] for row in rows])
        assert signed[0] == pytest.approx([row["sum"] for row in rows])
        for drawn, name, factor in ((share, "share_interval", 100), (signed, "sum_interval", 1)):
            assert np.array(drawn[1]) == pytest.approx(factor * np.array([row[name] for row in rows]))
        assert share[2] == ["4", "5"]
        assert len(figure.axes) == (2 if by_layer else 4)
        assert {"strength, unsigned", "signed sum", "Σ attribution, nats", "share of Σ |attribution|, %"} <= {
            *words(figure)
        }
        assert any("means over 20 samples; lines are 95 % intervals" in text for text in words(figure))

    def test_what_is_undecided_has_no_sign(self):
        figure = made(of_opposite_signs()).plot()
        either, up = (bar.get_facecolor()[:3] for bar in figure.axes[1].patches)
        experts = squares(figure.axes[2])
        assert experts[0, 1][:3] == pytest.approx(either), "undecided over the samples"
        assert experts[1, 2][:3] == pytest.approx(up)
        assert up != pytest.approx(either)
        assert experts[0, 1][3] == pytest.approx(1), "though it is the strongest"
        assert "either: the interval holds zero" in words(figure)

    def test_of_one_sample_every_sign_is_its_own(self):
        figure = made(of_opposite_signs()[1:2]).plot()
        down, up = (bar.get_facecolor()[:3] for bar in figure.axes[1].patches)
        assert squares(figure.axes[2])[0, 1][:3] == pytest.approx(down) != pytest.approx(up)
        assert "either: the interval holds zero" not in words(figure)
        assert figure.axes[1].lines[0].get_xdata() == [0, 0]
        assert len(figure.axes[1].lines) == 1, "no interval"

    def test_of_a_real_one(self, problem, tmp_path):
        attribute(problem, "integrated-gradients", of=linear, experts=6).plot().savefig(tmp_path / "a.png")
        attribute(problem, "feature-ablation", of=linear, experts=6).plot().savefig(tmp_path / "b.png")
        zero = attribute(problem, "saliency", of=lambda problem: lambda weights, running=None: 0 * weights.sum((1, 2)))
        zero.plot().savefig(tmp_path / "c.png")


class TestBadInput:
    @pytest.mark.parametrize(("method", "message"), [
        ("deep-lift", "deep-lift cannot be run on a pathway: it hooks modules"),
        ("layer-integrated-gradients", "forbids layers that feed each other"),
        ("DeepLift", "DeepLift cannot be run on a pathway: it hooks modules"),
        ("LayerConductance", "forbids layers that feed each other"),
        ("LRP", "LRP cannot be run on a pathway"),
        ("shap", "got 'shap'; there are saliency, "),
        ("IntegratedGradient", "; did you mean 'IntegratedGradients'.* Saliency, "),
        ("integrated_gradients", "; did you mean .*'integrated-gradients'"),
    ])  # fmt: skip
    def test_methods_that_do_not_work_here(self, problem, method, message):
        with pytest.raises(SettingError, match=message):
            attribute(problem, method)

    @pytest.mark.parametrize("wrong", [torch.zeros(3, 6, 23), torch.zeros(6, 24), torch.full((3, 6, 24), torch.nan)])
    def test_baseline_of_the_wrong_shape(self, problem, wrong):
        with pytest.raises(ShapeError, match=r"finite baseline of shape \(B, L, E\) = \(3, 6, 24\), got "):
            attribute(problem, "integrated-gradients", baseline=wrong)

    def test_names(self, problem):
        with pytest.raises(SettingError, match="baseline, got 'mean'; there are uniform, neighbours, zero; "):
            attribute(problem, "integrated-gradients", baseline="mean")
        with pytest.raises(SettingError, match="got 'unifrom'; did you mean 'uniform'"):
            attribute(problem, "integrated-gradients", baseline="unifrom")
        with pytest.raises(
            SettingError, match=r"groups, got 'experts'; did you mean 'expert'\? There are layer, expert"
        ):
            attribute(problem, "feature-ablation", groups="experts")
        with pytest.raises(SettingError, match=r"of to be one of 'neighbours', .*, got 'margn'; did you mean 'margin'"):
            Attribution(of="margn")
        with pytest.raises(
            SettingError, match=r"of as a name, or a function .* there are neighbours, entropy, margin; "
        ):
            attribute(problem, of="label")

    def test_a_baseline_of_ones_own(self, problem):
        got = attribute(problem, "integrated-gradients", of=linear, baseline=problem.own.flip(0), steps=20).values
        torch.testing.assert_close(got, slopes(problem) * (problem.own - problem.own.flip(0)), atol=1e-5, rtol=1e-3)

    @pytest.mark.parametrize("setting", [
        {"groups": "layers"}, {"experts": 25}, {"experts": 0}, {"steps": 0}, {"draws": 0},
    ], ids=str)  # fmt: skip
    def test_settings(self, problem, setting):
        with pytest.raises(SettingError, match="Expected"):
            attribute(problem, "integrated-gradients", **setting)

    def test_pathways_of_the_wrong_shape(self, problem):
        with pytest.raises(ShapeError, match=r"omega of shape \(B, L, E\) = \(3, 6, 24\), got \(1, 6, 24\)"):
            attribute(problem, omega=problem.own[:1])


@pytest.mark.parametrize("scope", SCOPES)
def test_unused_core_experts_have_their_gradient_on_a_real_model(scope):
    """Saliency of an expert with weight zero is the slope of giving it weight."""
    problem = remixer("olmoe", scope=scope, selector=Gradient(n=2, experts=6)).problem(questions(3, "t"))
    found = attribute(problem, "saliency", experts=6).values
    inside = problem.within(Selection(core(problem.ranking, 6)))
    unused = (core(problem.ranking, 6) & (problem.own == 0)).nonzero()
    more, checked = 2e-4, 0  # at every token: with 5e-4 of it a router behind changes its mind about one
    rounding = 20 * torch.finfo(torch.float32).eps * inside.loss(problem.own).max().item() / more
    for b, row, expert in unused[::5].tolist():
        step = torch.zeros_like(problem.own)
        step[b, row, expert] = more
        with torch.no_grad():
            slope = (inside.loss(problem.own + step) - inside.loss(problem.own))[b].item() / more
        assert found[b, row, expert].item() == pytest.approx(slope, rel=0.1, abs=rounding)
        checked += abs(slope) > 2 * rounding
    assert checked, "some of them matter"


@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe"])
def test_integrated_gradients_of_a_router_distribution_are_complete(family):
    """The top-k of even shares is the model's own, so the function has no jump on the way to ω0."""
    alone = {"references": None, "optimizer": NoStep(), "format": Letter()}
    problem = remixer(family, pathway="router", mix="top-k", scope="last", **alone).problem(questions(3, "t"))
    even = baseline_pathway(problem, "uniform", problem.own.shape[-1])
    k = problem.used.sum(-1).max()
    assert torch.equal(core(even, k), problem.used)
    torch.testing.assert_close(even.sum(-1), torch.ones(even.shape[:2]))
    found = attribute(problem, "integrated-gradients", of="entropy", experts=None, steps=30, delta=True)
    assert found.delta.abs().max() < 1e-3 * found.strength.sum(1).max()
    assert (found.values * ~problem.used).abs().max() == 0, "an expert outside the top-k has no part in f"
    for other in (0, 0.1):
        with pytest.raises(SettingError, match=r"take uniform|Expected uniform"):
            attribute(problem, "integrated-gradients", of="entropy", baseline=other)
