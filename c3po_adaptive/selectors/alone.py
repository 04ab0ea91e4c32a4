"""What re-mixing does in some layers alone: the exhaustive way to find where it helps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..optimizers.base import PathwayOptimizer
from ..problem import LabelledProblem, Loss, Problem
from ..routing.mixing import core
from ..types import Selection


def benefit_alone(
    problem: Problem, optimizer: PathwayOptimizer, experts: int, loss: Callable[[Problem], Loss]
) -> Tensor:
    """``[B, L]`` by how much ``loss`` falls when the optimizer re-mixes that layer's core experts, and nothing else."""
    with torch.no_grad():
        before = loss(problem)(problem.own)
    found = []
    for row in torch.eye(len(problem.layers), dtype=torch.bool):
        inside, weights = remixed_in(row, problem, optimizer, experts)
        with torch.no_grad():
            found.append(before - loss(inside)(weights))
    return torch.stack(found, 1)


def remixed_in(rows: Tensor, problem: Problem, optimizer: PathwayOptimizer, experts: int) -> tuple[Problem, Tensor]:
    """The problem within the core experts of ``rows [L]`` (bool), and the optimizer's ω ``[B, L, E]`` there."""
    inside = problem.within(Selection(core(problem.ranking, experts) & rows[:, None]))
    return inside, remixed(optimizer, inside)


def remixed(optimizer: PathwayOptimizer, problem: Problem) -> Tensor:
    """The optimizer's ω ``[B, L, E]``; one that is no upper bound does not get to see the labels."""
    if isinstance(problem, LabelledProblem) and not optimizer.needs_label:
        problem = problem.unlabelled()
    return optimizer.optimize(problem).detach()
