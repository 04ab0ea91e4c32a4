"""What a pathway makes of each row's routing, by hand."""

import torch

from c3po_adaptive.routing.rules import PathwayRule, shift

OWN = torch.tensor([[[0.5, 0.3, 0.0, 0.0]]])  # [B, L, E]


def rule(omega, replaced, shifted, **settings):
    weights = torch.tensor([[omega]])
    active = torch.ones(1, 1, dtype=torch.bool)
    return PathwayRule(weights, OWN, torch.tensor(replaced), torch.tensor(shifted), active, **settings)


def routing(change):
    return torch.zeros(len(change.index), 4).scatter_add(1, change.index, change.weights)


def test_rows_that_are_not_named_are_left_out():
    index, weights = torch.tensor([[0, 1]] * 3), torch.tensor([[0.5, 0.3]] * 3)
    change = rule([0.1, 0.3, 0.4, 0.0], [-1, 0, -1], [-1, -1, 0])(0, index, weights)
    assert change.rows.tolist() == [1, 2]
    torch.testing.assert_close(routing(change), torch.tensor([[0.1, 0.3, 0.4, 0.0], [0.1, 0.3, 0.4, 0.0]]))
    assert rule([0.1, 0.3, 0.4, 0.0], [-1] * 3, [-1] * 3)(0, index, weights) is None


def test_short_rows_are_filled_up_with_the_first_expert_at_weight_zero():
    """Any other might be a choice of the router that is no expert, which grouped kernels leave uninitialized."""
    index, weights = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0.5, 0.3], [0.8, 0.0]])
    change = rule([0.2, 0.2, 0.4, 0.0], [0, -1], [-1, 0])(0, index, weights)
    assert change.used.tolist() == [3, 2]
    assert sorted(change.index[1].tolist()) == [0, 1, 2]
    filled = change.index[1] == 0
    assert change.weights[1][filled].tolist() == [0.0]
    torch.testing.assert_close(routing(change)[1], torch.tensor([0.0, 0.8 * 0.7 / 1.1, 0.8 * 0.4 / 1.1, 0.0]))


def test_shift_keeps_each_rows_mass():
    rows = torch.tensor([[0.6, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    moved = shift(rows, torch.tensor([-0.4, 0.0, 0.4, 0.0]))
    torch.testing.assert_close(moved, torch.tensor([[0.2, 0.2, 0.4, 0.0], [0.0, 0.0, 0.0, 0.0]]))
