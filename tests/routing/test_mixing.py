"""Arithmetic of routing weights."""

import torch

from c3po_adaptive.routing.mixing import core, dense, sparse, top, with_mass
from c3po_adaptive.routing.rules import shift


def test_dense_and_sparse_are_inverse():
    index, weights = torch.tensor([[3, 1], [0, 2]]), torch.tensor([[0.5, 0.2], [0.4, 0.1]])
    full = dense(index, weights, 5)
    assert full.tolist() == torch.tensor([[0, 0.2, 0, 0.5, 0], [0.4, 0, 0.1, 0, 0]]).tolist()
    again, kept = sparse(full, 2)
    assert torch.equal(again, index)
    assert torch.equal(kept, weights)


def test_top_keeps_the_mass():
    cut = top(torch.tensor([[0.4, 0.1, 0.3, 0.0]]), 2)
    torch.testing.assert_close(cut, torch.tensor([[0.8 * 4 / 7, 0, 0.8 * 3 / 7, 0]]))


def test_shift_clips_at_zero_and_keeps_the_mass():
    routing, change = torch.tensor([[0.3, 0.3, 0.0]]), torch.tensor([[-0.5, 0.1, 0.2]])
    torch.testing.assert_close(shift(routing, change), torch.tensor([[0.0, 0.4, 0.2]]))
    assert torch.equal(shift(routing, torch.zeros(1, 3)), routing)


def test_rows_of_zeros_stay_zero():
    assert torch.equal(with_mass(torch.zeros(1, 3), torch.ones(1, 1)), torch.zeros(1, 3))


def test_core_is_the_routers_best():
    assert core(torch.tensor([0.1, 0.4, 0.2, 0.3]), 2).tolist() == [False, True, False, True]
    assert not core(torch.rand(2, 4), 0).any()
