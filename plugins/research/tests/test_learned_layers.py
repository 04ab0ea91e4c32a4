"""Layers by disagreement and by predicted benefit: the contract, closed forms on the toy, and what is learned."""

from dataclasses import replace

import pytest
import torch
from c3po_research._signals import uncertainty
from c3po_research.learned_layers import Disagreement, Learned, ahead
from one_layer import chosen, only

from c3po_adaptive.errors import SettingError
from c3po_adaptive.losses import entropy, margin
from c3po_adaptive.registry import default_registry
from c3po_adaptive.storage.kept import code_of
from c3po_adaptive.testing import ToyTraining, altered, toy_problem


@pytest.fixture
def problem():
    return toy_problem(selected=None)


def test_disagreement():
    """Two neighbours that agree on a layer count in full; where they are apart, less."""
    problem = toy_problem(B=1, L=2, E=4, K=2, top_k=1, core=2, selected=None)
    one, two, three = torch.eye(4)[:3]
    own = torch.stack([one, one])
    near = torch.stack([torch.stack([two, two]), torch.stack([two, three])])
    problem = replace(
        problem, own=own[None], neighbour_pathways=near[None],
        neighbours=replace(problem.neighbours, weight=torch.tensor([[0.5, 0.5]])),
    )  # fmt: skip
    scores, each = Disagreement(n=2, experts=2).score(problem)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.5]]))  # d = 1 in both; apart by ½ from their mean
    torch.testing.assert_close(each[0, 1], torch.tensor([0.5, 0.25, 0.25, 0.0]))


class TestLearnedSelector:
    def test_finds_where_it_helps(self):
        """References whose label only layer 3 can help: a linear model sees it from the layer alone."""

        def made(problem):
            return altered(problem, label_loss=(wanted := only(problem, 3)).loss, loss=wanted.loss)

        selector = Learned(n=2, experts=6, training=40).prepare(ToyTraining(made=made))
        selection = selector.select(toy_problem(selected=None))
        assert all(3 in layers for layers in chosen(selection))
        assert (selection.scores.argmax(-1) == 3).all()

    def test_is_kept(self):
        practice = ToyTraining()
        one = Learned(training=32, experts=6).prepare(practice)
        assert len(practice.kept) == 1
        other = Learned(training=32, experts=6).prepare(replace(practice, optimizer=None))
        assert one.learned is other.learned
        assert one == other == Learned(training=32, experts=6), "what was learned is no setting"

    def test_what_it_looks_up_by_name_is_its_code(self, monkeypatch):
        """An edit of what measures the effects, which is another plugin's, or the slopes has it learn anew."""
        learners = []
        monkeypatch.setattr(ToyTraining, "once", lambda _, learner, learn: learners.append(learner) or learn())
        Learned(training=32, experts=6).prepare(ToyTraining())
        for name in ("causal", "amortized"):
            assert {*code_of(default_registry().get("selector", name))} <= {*code_of(*learners)}

    def test_must_learn_first(self, problem):
        with pytest.raises(SettingError, match="references to learn from first"):
            Learned(experts=6).select(problem)
        with pytest.raises(SettingError, match=r"learned\.training to be a whole number >= 32, got 10"):
            Learned(training=10)


def test_what_is_known_of_choices_is_what_the_package_makes_of_them():
    drawn = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    drawn[1, 3], drawn[2, 1:] = -torch.inf, -torch.inf
    problem = altered(toy_problem(5, selected=None), own_scores=drawn)
    torch.testing.assert_close(ahead(problem), margin(drawn, drawn))
    count = drawn.isfinite().sum(-1)
    torch.testing.assert_close(uncertainty(problem), entropy(drawn) / count.log().clamp_min(1e-12))
