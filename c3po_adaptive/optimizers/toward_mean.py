"""Between a sample's pathway and the mean of its neighbours': what kernel regressions share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..problem import Problem
from ._simplex import has_neighbours, toward
from .base import PathwayOptimizer


@dataclass(frozen=True)
class TowardMean(PathwayOptimizer):
    """ω = α ω0 + (1 − α) ω̂, where ω̂ = Σ K ω_i / Σ K is the neighbours' mean pathway; a subclass says which α.

    C3PO (arXiv 2504.07964) and R2-T2 (arXiv 2502.20395), kernel regression.
    """

    @abstractmethod
    def share(self, problem: Problem, mean: Tensor) -> Tensor:
        """``[B]`` α of each sample, from 1 (stay) to 0 (all the way to ``mean [B, L, E]``, a valid pathway)."""

    def optimize(self, problem: Problem) -> Tensor:
        mean = (problem.neighbours.weight[:, :, None, None] * problem.neighbour_pathways).sum(1)
        mean = torch.where(has_neighbours(problem)[:, None, None], toward(problem, mean), problem.own)
        if (mean == problem.own).all():
            return problem.own
        omega = between(problem.own, mean, self.share(problem, mean))
        return torch.where((mean == problem.own).all(-1, keepdim=True), problem.own, omega)


def between(own: Tensor, mean: Tensor, alpha: Tensor) -> Tensor:
    """``alpha [B]`` of ``own [B, L, E]`` and the rest of ``mean``; where they are one, or α is, ``own`` bit for bit."""
    alpha = alpha[:, None, None]
    return torch.where((alpha == 1) | (mean == own), own, alpha * own + (1 - alpha) * mean)
