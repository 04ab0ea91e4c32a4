"""Single-layer effects of re-mixing: the exhaustive way to find where it helps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..optimizers.base import PathwayOptimizer
from ..problem import LabeledProblem, Loss, Problem
from ..routing.mixing import core
from ..types import Selection


def single_layer_benefit(
    problem: Problem, optimizer: PathwayOptimizer, experts: int, loss: Callable[[Problem], Loss]
) -> Tensor:
    """``[B, L]`` by how much ``loss`` falls when the optimizer re-mixes that layer's core experts, and nothing else.

    Before and after are measured by one function, in which the whole pathway acts: that of a selection is another, for
    there the neighbours go their own way in all other layers.
    """
    with torch.no_grad():
        before = loss(problem)(problem.own)
    found = []
    for row in torch.eye(len(problem.layers), dtype=torch.bool):
        weights = remixed_in(row, problem, optimizer, experts)
        with torch.no_grad():
            found.append(before - loss(problem)(weights))
    return torch.stack(found, 1)


def remixed_in(rows: Tensor, problem: Problem, optimizer: PathwayOptimizer, experts: int) -> Tensor:
    """The optimizer's ω ``[B, L, E]`` within the core experts of ``rows [L]`` (bool)."""
    return remixed(optimizer, problem.within(Selection(core(problem.ranking, experts) & rows[:, None])))


def remixed(optimizer: PathwayOptimizer, problem: Problem) -> Tensor:
    """The optimizer's ω ``[B, L, E]``; one that is no upper bound does not get to see the labels."""
    if isinstance(problem, LabeledProblem) and not optimizer.needs_label:
        problem = problem.unlabeled()
    return optimizer.optimize(problem).detach()
