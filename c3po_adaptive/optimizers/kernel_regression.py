"""Kernel regression of pathways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..checks import check_number
from ..problem import Problem
from ._simplex import has_neighbours, toward
from .base import PathwayOptimizer


@dataclass(frozen=True)
class KernelRegression(PathwayOptimizer):
    """Move ω toward the kernel mean of the neighbours' pathways: ω ← α ω + (1 − α) ω̂, ω̂ = Σ K ω_i / Σ K.

    C3PO (arXiv 2504.07964), kernel regression. α is the one that lowers the neighbours' loss most, among ``points``
    evenly spaced values from 1 (stay) to 0 (all the way), or a fixed number.
    """

    alpha: float | Literal["search"] = "search"
    points: int = 5
    name: ClassVar[str] = "kernel-regression"

    def __post_init__(self) -> None:
        if self.alpha != "search":
            check_number(self, "alpha", at_least=0, at_most=1, hint="or write 'search'")
        check_number(self, "points", at_least=2, whole=True, hint="alpha is searched among them")

    def optimize(self, problem: Problem) -> Tensor:
        mean = (problem.neighbours.weight[:, :, None, None] * problem.neighbour_pathways).sum(1)
        there = torch.where(has_neighbours(problem)[:, None, None], toward(problem, mean), problem.own)
        if (there == problem.own).all():
            return problem.own
        found = self._search(problem, there) if self.alpha == "search" else _between(self.alpha, problem.own, there)
        return torch.where((there == problem.own).all(-1, keepdim=True), problem.own, found)

    @torch.no_grad()
    def _search(self, problem: Problem, there: Tensor) -> Tensor:
        best, lowest = problem.own, problem.loss(problem.own)
        for alpha in torch.linspace(1, 0, self.points)[1:].tolist():
            moved = _between(alpha, problem.own, there)
            loss = problem.loss(moved)
            better = (loss < lowest)[:, None, None]
            best, lowest = torch.where(better, moved, best), torch.minimum(loss, lowest)
        return best


def _between(alpha: float, own: Tensor, there: Tensor) -> Tensor:
    return own if alpha == 1 else alpha * own + (1 - alpha) * there
