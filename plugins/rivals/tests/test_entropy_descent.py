"""Entropy descent moves every question, by what the model itself says."""

import torch
from c3po_rivals.entropy_descent import EntropyDescent

from c3po_adaptive.testing import toy_problem


def test_lowers_entropy_of_each_sample_with_or_without_neighbours():
    problem = toy_problem(alone=[1])
    omega = EntropyDescent().optimize(problem)
    assert (problem.entropy(omega) < problem.entropy(problem.own)).all()


def test_does_not_read_references():
    optimizer = EntropyDescent()
    assert torch.equal(optimizer.optimize(toy_problem()), optimizer.optimize(toy_problem(alone=[0, 1, 2])))
