"""Toys in which one layer alone matters, and which layers a selection takes."""

import torch

from c3po_adaptive.testing import altered


def only(problem, row, sign=1.0):
    """The same problem with a loss, scores and gradients of one layer alone: its first experts should rise."""
    direction = torch.zeros(problem.own.shape[1:])
    direction[row] = sign * torch.arange(24.0)

    def loss(weights, running=None):
        return (weights * direction).sum((1, 2))

    def scores(weights, running=None):
        return torch.stack([loss(weights), torch.zeros(len(weights))], 1)

    return altered(
        problem,
        loss=loss,
        scores=scores,
        own_scores=scores(problem.own),
        of_neighbours=lambda artifact: direction.expand(*problem.neighbours.weight.shape, *direction.shape),
    )


def chosen(selection):
    return [x.nonzero().squeeze(1).tolist() for x in selection.layers]
