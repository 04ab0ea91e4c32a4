"""Losses of a pathway, against their formulas and naive full forwards."""

import math

import pytest
import torch
from routing.naive import FAMILIES, along, choice_scores, moved, shared_model
from routing.toys import questions

from c3po_adaptive.losses import TailScores, entropy, right_answer_loss
from c3po_adaptive.routing.states import collate
from c3po_adaptive.types import Pathway

SCORES = torch.tensor([[-1.0, -2.0, -torch.inf], [-0.5, -3.0, -1.0]])


class TestFormulas:
    def test_choices_is_cross_entropy_over_the_scores(self):
        first = -math.log(math.exp(-2) / (math.exp(-1) + math.exp(-2)))
        second = -math.log(math.exp(-0.5) / sum(map(math.exp, (-0.5, -3, -1))))
        assert right_answer_loss(SCORES, torch.tensor([1, 0]), "choices").tolist() == pytest.approx([first, second])

    def test_likelihood_is_that_of_the_right_choice(self):
        assert right_answer_loss(SCORES, torch.tensor([1, 2]), "likelihood").tolist() == [2.0, 1.0]

    def test_entropy(self):
        p = SCORES[0, :2].softmax(-1)
        assert entropy(SCORES)[0].item() == pytest.approx(-(p * p.log()).sum().item())
        assert entropy(torch.zeros(1, 4)).item() == pytest.approx(math.log(4))

    def test_missing_choices_have_no_gradient(self):
        free = torch.tensor([[0.3, -0.2, 0.9]], requires_grad=True)
        scores = free.masked_fill(torch.tensor([[False, False, True]]), -torch.inf)
        for loss in (entropy(scores), right_answer_loss(scores, torch.tensor([0]), "choices")):
            (gradient,) = torch.autograd.grad(loss.sum(), free, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient[0, 2] == 0
            assert gradient[0, 0] != 0


@pytest.mark.parametrize("family", FAMILIES)
class TestTailScores:
    def test_each_sample_acts_on_its_own_tails(self, family):
        """Three questions, two samples: the scores of a naive forward of each question with its sample's ω."""
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(3)])
        own = torch.stack([s.own for s in model.prefill([model.encode_text(t) for t in ("Fish", "Birds fly")])])
        pathway = moved(Pathway(own, own, model.layers), layers=(1, 2))
        sample = torch.tensor([0, 1, 1])
        tail = TailScores(model, collate(states), sample, own, pathway.changed())
        with torch.no_grad():
            scores = tail(pathway.weights)
            for state, b, row in zip(states, sample.tolist(), scores, strict=True):
                edit = along(pathway.weights[b], own[b], len(state.prompt.ids) - 1)
                expected = choice_scores(model.model, state.prompt, edit)
                torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=0)
                assert (row[len(expected) :] == -torch.inf).all()

    def test_counts_each_samples_share(self, family):
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(3)])
        own = torch.stack([s.own for s in states[:2]])
        pathway = moved(Pathway(own, own, model.layers), layers=(2,))
        tail = TailScores(model, collate(states), torch.tensor([0, 1, 1]), own, pathway.changed())
        assert tail.spent.tolist() == [0, 0]
        with torch.no_grad():
            tail(pathway.weights)
        once = tail.spent.clone()
        assert once[1].item() == pytest.approx(2 * once[0].item())
        with torch.no_grad():
            tail(pathway.weights)
        assert torch.equal(tail.spent, 2 * once)
        tail(pathway.weights.clone().requires_grad_())
        assert (tail.spent > 3 * once).all(), "the way back counts too"

    def test_a_sample_without_active_layers_is_left_alone(self, family):
        model = shared_model(family)
        states = model.prefill([model.encode(q) for q in questions(2)])
        own = torch.stack([s.own for s in states])
        pathway = moved(Pathway(own, own, model.layers))
        active = torch.tensor([[False] * 3, [False, True, True]])
        batch = collate(states)
        with torch.no_grad():
            scores = TailScores(model, batch, torch.arange(2), own, active)(pathway.weights)
        base = batch.choice_scores(torch.cat([s.token_scores for s in states]))
        torch.testing.assert_close(scores[0], base[0], atol=1e-5, rtol=0)
        assert (scores[1] - base[1]).abs().max() > 1e-4
