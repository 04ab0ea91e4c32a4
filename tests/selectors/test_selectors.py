"""Layer selectors: the contract, and what each chooses, against closed forms on the toy."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import pytest
import torch
from one_layer import chosen, only

from c3po_adaptive import Attribution
from c3po_adaptive.attribution import METHODS
from c3po_adaptive.errors import SettingError, ShapeError
from c3po_adaptive.optimizers._simplex import slope
from c3po_adaptive.registry import in_words
from c3po_adaptive.selectors.fixed import Fixed, check_experts
from c3po_adaptive.selectors.gradient import Amortized, Gradient
from c3po_adaptive.selectors.random_layers import RandomLayers
from c3po_adaptive.selectors.scored import ScoredLayers, best
from c3po_adaptive.testing import SelectorContract, altered, toy_problem

SCORED = [Attribution, Gradient, Amortized]
TARGETS = ("neighbours", "entropy", "margin")


EACH = [
    *(Fixed(**settings) for settings in ({}, {"layers": "first", "n": 1}, {"layers": "middle", "experts": 3})),
    *(Fixed(layers=layers) for layers in ("all", (3, 5))),
    *(RandomLayers(**settings) for settings in ({}, {"n": 1, "experts": 2}, {"n": 0})),
    *(Attribution(method=method, of=of, n=2, experts=6, draws=2) for method, of in product(METHODS, TARGETS)),
    Attribution(
        method="feature-ablation", baseline="neighbours", groups="expert", budget=200, rank="score", n=2, experts=6
    ),
    Attribution(method="saliency", rank="score", n=2, experts=6),
    *(Gradient(n=2, experts=6, **settings) for settings in ({}, {"of": "entropy"}, {"of": "margin", "share": 0.5})),
    Gradient(n=2, experts=6, rank="score", expert_share=0.7),
    *(Amortized(n=2, experts=6, rank=rank) for rank in ("router", "score")),
]


class TestEach(SelectorContract):
    @pytest.fixture(params=EACH, ids=in_words)
    def selector(self, request):
        return request.param


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

    @pytest.mark.parametrize("layers", [5, "lats", (1.5,), [True]])
    def test_what_is_no_list_of_layers(self, layers):
        with pytest.raises(SettingError, match="'middle', 'all', or a list of whole numbers"):
            Fixed(layers=layers)

    def test_decoder_layers_that_are_not_there(self):
        with pytest.raises(SettingError, match=r"among the MoE layers \(2, 3, 4, 5, 6, 7\), got \[1, 8\]"):
            Fixed(layers=(1, 4, 8)).select(toy_problem(selected=None))


@pytest.mark.parametrize("make", [Fixed, RandomLayers, *SCORED])
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

    def test_none_is_a_choice(self, make):
        assert not make(n=0).select(toy_problem(selected=None)).mask.any()

    def test_models_are_refused_beforehand(self, make):
        for setting, message in (({"n": 7}, "at most 6 layers"), ({"experts": 25}, "at most 24 experts")):
            with pytest.raises(SettingError, match=message):
                make(**setting).fits(tuple(range(6)), 24)
        make(n=6, experts=24).fits(tuple(range(6)), 24)
        make(experts=None).fits(tuple(range(6)), 2)

    def test_the_papers_twenty_are_all_where_a_layer_has_fewer(self, make):
        make(n=2).fits(tuple(range(6)), 16)
        assert check_experts(make().experts, 16) == 16
        with pytest.raises(SettingError, match="at most 16 experts"):
            make(n=2, experts=19).fits(tuple(range(6)), 16)

    def test_all_experts(self, make):
        selection = make(n=2, experts=None).select(toy_problem(selected=None))
        assert selection.mask[selection.layers].all()


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


@pytest.fixture
def problem():
    return toy_problem(selected=None)


class TestScoredLayers:
    @pytest.mark.parametrize("make", SCORED)
    def test_the_only_layer_that_matters_is_found(self, problem, make):
        selection = make(n=5, experts=6).select(only(problem, 3))
        assert chosen(selection) == [[3]] * 3, "the others have nothing to give, so fewer than n are taken"
        assert (selection.mask.sum(-1)[selection.layers] == 6).all()

    @pytest.mark.parametrize("of", ["entropy", "margin"])
    @pytest.mark.parametrize("make", [Attribution, Gradient], ids=lambda x: x.name)
    def test_by_the_samples_own_choices(self, problem, make, of):
        assert chosen(make(n=5, experts=6, of=of).select(only(problem, 2))) == [[2]] * 3
        assert not make(of=of).needs_neighbours
        assert make().needs_neighbours

    def test_towards_a_surer_answer(self, problem):
        """With two choices a lower entropy is a wider margin."""
        found = {}
        for sign in (1.0, -1.0):
            plain = only(problem, 2, sign)
            for of in ("entropy", "margin"):
                found[sign, of] = Gradient(n=5, experts=6, of=of).score(plain)[0][:, 2]
            lead = plain.own_scores.softmax(-1).amax(-1)
            spread = lead * (1 - lead) * (plain.own_scores[:, 0] - plain.own_scores[:, 1]).abs()  # dH / d margin
            torch.testing.assert_close(found[sign, "entropy"], spread * found[sign, "margin"])

    def test_highest_scores(self, problem):
        selection = Attribution(n=2, experts=6).select(problem)
        for b in range(3):
            best = selection.scores[b].topk(2).indices.sort().values.tolist()
            assert chosen(selection)[b] == best

    def test_share_of_the_total(self, problem):
        selection = Gradient(n=6, experts=6, share=0.5).select(problem)
        total = selection.scores.sum(-1)
        together = (selection.scores * selection.layers).sum(-1)
        smallest = selection.scores.masked_fill(~selection.layers, torch.inf).amin(-1)
        assert (together >= 0.5 * total).all()
        assert (together - smallest < 0.5 * total).all(), "without the last one it would be too little"
        assert not Gradient(experts=6, share=0.0).select(problem).mask.any()

    def test_threshold(self, problem):
        scores = Gradient(experts=6).select(problem).scores
        level = scores.median().item()
        assert torch.equal(Gradient(n=6, experts=6, threshold=level).select(problem).layers, scores > level)
        assert not Gradient(n=6, experts=6, threshold=1e6).select(problem).mask.any()

    def test_experts_by_their_scores(self, problem):
        wanted = only(problem, 3)
        half = Gradient(n=1, experts=24, rank="score", expert_share=0.5).select(wanted)
        assert 0 < half.mask[:, 3].sum(-1).max() < 24
        _, each = Gradient(n=1, experts=24).score(wanted)
        for b in range(3):
            inside, outside = each[b, 3][half.mask[b, 3]], each[b, 3][~half.mask[b, 3]]
            assert inside.min() >= outside.max()
            assert inside.sum() >= 0.5 * each[b, 3].sum() > inside.sum() - inside.min()

    def test_without_neighbours_nothing_speaks_for_a_layer(self):
        problem = toy_problem(selected=None, alone=[1])
        for make in SCORED:
            selection = make(n=2, experts=6).select(problem)
            assert selection.layers.sum(-1).tolist() == [2, 0, 2], make
            assert selection.scores[1].tolist() == [0.0] * 6

    @pytest.mark.parametrize("setting", [
        {"share": 1.5}, {"share": -0.1}, {"threshold": torch.nan}, {"rank": "size"}, {"expert_share": 0.5},
        {"expert_threshold": 0.1},
    ], ids=str)  # fmt: skip
    def test_settings_are_checked(self, setting):
        with pytest.raises(SettingError, match="Expected"):
            Gradient(**setting)

    def test_scores_of_experts_that_there_are_not(self, problem):
        with pytest.raises(SettingError, match="Expected rank 'router': layered has no scores of experts"):
            Layered(n=1, experts=6, rank="score").select(problem)
        with pytest.raises(SettingError, match="groups 'expert' with rank 'score' and feature-ablation"):
            Attribution(method="feature-ablation", rank="score")


class TestAttributionSettings:
    @pytest.mark.parametrize("setting", [
        {"method": "shap"}, {"baseline": "mean"}, {"of": "label"}, {"groups": "all"}, {"steps": 0}, {"draws": 0},
        {"budget": 0}, {"seed": -1},
    ], ids=str)  # fmt: skip
    def test_are_checked(self, setting):
        with pytest.raises(SettingError, match="Expected"):
            Attribution(**setting)

    def test_budget(self, problem):
        with pytest.raises(SettingError, match="at most budget=5 tail passes, integrated-gradients takes 12"):
            Attribution(method="integrated-gradients", steps=4, experts=6, budget=5).select(problem)


class TestGradientSelector:
    def test_score_is_the_decrease_of_a_small_step(self, problem):
        """Along the tangent gradient, a step of length h lowers the loss by h times the score, to first order."""
        scores, _ = Gradient(experts=24).score(problem)
        weights = problem.own.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(problem.loss(weights).sum(), weights)
        able = torch.ones_like(problem.own, dtype=torch.bool)
        along = slope(gradient, problem.own, able)
        for row in range(6):
            step = torch.zeros_like(along)
            step[:, row] = 1e-4 * along[:, row] / along[:, row].norm(dim=-1, keepdim=True)
            fall = (problem.loss((problem.own - step).double()) - problem.loss((problem.own + step).double())) / -2e-4
            torch.testing.assert_close(fall.float(), scores[:, row], rtol=1e-2, atol=1e-4)
            moved = problem.own - step
            assert (moved >= -1e-7).all()
            torch.testing.assert_close(moved.sum(-1), problem.own.sum(-1), atol=1e-5, rtol=0)

    def test_candidates(self, problem):
        selection = Gradient(n=5, experts=6, within_last=2).select(problem)
        assert chosen(selection) == [[4, 5]] * 3
        assert (selection.scores[:, :4] == 0).all()
        with pytest.raises(SettingError, match="at most 6 layers"):
            Gradient(within_last=7).select(problem)

    def test_amortized_is_the_same_where_the_gradient_is_the_same(self, problem):
        """If the references' gradients are those of the loss itself."""
        at_own = (problem.own[:, None] - problem.neighbour_pathways) * (problem.neighbours.index >= 0)[..., None, None]
        problem = altered(problem, of_neighbours=lambda artifact: at_own)
        for a, b in zip(Gradient(experts=6).score(problem), Amortized(experts=6).score(problem), strict=True):
            torch.testing.assert_close(a, b)


def test_a_share_of_experts_leaves_those_without_a_score(problem):
    """Equal scores are told apart by the router, but nothing is added to them."""
    each = torch.tensor([[3.0, 0.0, 0.0, 1.0]])
    router = torch.tensor([[0.1, 0.5, 0.2, 0.2]])
    assert best(each, 4, 1.0, 0.0, router).tolist() == [[True, False, False, True]]
    assert best(torch.ones(1, 4), 2, 1.0, 0.0, router).tolist()[0][1]


@dataclass(frozen=True, kw_only=True)
class Bare(ScoredLayers):
    """Gives the scores of layers alone."""

    name: ClassVar[str] = "bare"

    def score(self, problem):
        return problem.own.sum(-1)


@dataclass(frozen=True, kw_only=True)
class Layered(Bare):
    """Says that it has none of experts."""

    name: ClassVar[str] = "layered"

    def score(self, problem):
        return super().score(problem), None


def test_scores_without_a_word_on_experts_are_refused():
    with pytest.raises(ShapeError, match=r"Expected bare to score .* got Tensor; return \(scores, None\)"):
        Bare().select(toy_problem(selected=None))
