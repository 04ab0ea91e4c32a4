"""Layers where the router is least sure."""

import torch
from c3po_rivals.router_confidence import RouterConfidence

from c3po_adaptive.testing import toy_problem


def test_takes_the_layers_whose_own_choice_was_least_likely():
    problem = toy_problem(selected=None)
    selection = RouterConfidence(n=2, experts=6).select(problem)
    for b in range(3):
        expected = torch.stack([-problem.router[b, row][problem.own[b, row] > 0].log().mean() for row in range(6)])
        torch.testing.assert_close(selection.scores[b], expected)
        assert selection.layers[b].nonzero().squeeze(1).tolist() == expected.topk(2).indices.sort().values.tolist()
