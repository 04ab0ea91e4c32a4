"""Losses, against their formulas."""

import math
from typing import get_args

import pytest
import torch

from c3po_adaptive.losses import entropy, margin, right_answer_loss
from c3po_adaptive.types import LossName

SCORES = torch.tensor([[-1.0, -2.0, -torch.inf], [-0.5, -3.0, -1.0]])


def _right(scores):
    return (right_answer_loss(scores, torch.tensor([0]), name) for name in get_args(LossName))


class TestFormulas:
    def test_choices_is_cross_entropy_over_the_scores(self):
        first = -math.log(math.exp(-2) / (math.exp(-1) + math.exp(-2)))
        second = -math.log(math.exp(-0.5) / sum(map(math.exp, (-0.5, -3, -1))))
        assert right_answer_loss(SCORES, torch.tensor([1, 0]), "choices").tolist() == pytest.approx([first, second])

    def test_likelihood_is_that_of_the_right_choice(self):
        assert right_answer_loss(SCORES, torch.tensor([1, 2]), "likelihood").tolist() == [2.0, 1.0]

    def test_lead_is_the_distance_of_the_right_choice_from_the_mean(self):
        assert right_answer_loss(SCORES, torch.tensor([1, 0]), "lead").tolist() == pytest.approx([0.5, -1.0])

    def test_lead_teaches_nothing_on_average_over_labels(self):
        """Cross-entropy does: it is lower where choices are alike."""
        free = SCORES.where(SCORES.isfinite(), 0.0)[1:].requires_grad_()
        for name, taught in (("lead", False), ("choices", True)):
            loss = sum(right_answer_loss(free, torch.tensor([label]), name).sum() for label in range(3))
            (gradient,) = torch.autograd.grad(loss, free)
            assert (gradient.abs().max().item() > 0.1) == taught

    def test_entropy(self):
        p = SCORES[0, :2].softmax(-1)
        assert entropy(SCORES)[0].item() == pytest.approx(-(p * p.log()).sum().item())
        assert entropy(torch.zeros(1, 4)).item() == pytest.approx(math.log(4))

    def test_missing_choices_have_no_gradient(self):
        free = torch.tensor([[0.3, -0.2, 0.9]], requires_grad=True)
        scores = free.masked_fill(torch.tensor([[False, False, True]]), -torch.inf)
        for loss in (entropy(scores), *_right(scores)):
            (gradient,) = torch.autograd.grad(loss.sum(), free, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient[0, 2] == 0
            assert gradient[0, 0] != 0


class TestMargin:
    def test_of_the_two_best_before(self):
        before, after = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[5.0, 1.0, 2.5]])
        assert margin(before, before).tolist() == [1.0]
        assert margin(after, before).tolist() == [-1.5], "the two stay the same, and changed places"

    def test_one_choice_leads_by_nothing(self):
        scores = torch.tensor([[0.0, -torch.inf], [2.0, 1.0]], requires_grad=True)
        found = margin(scores, scores.detach())
        assert found.tolist() == [0.0, 1.0]
        (gradient,) = torch.autograd.grad(found.sum(), scores)
        assert gradient.tolist() == [[0.0, 0.0], [1.0, -1.0]]
        assert margin(torch.zeros(2, 1), torch.zeros(2, 1)).tolist() == [0.0, 0.0]
