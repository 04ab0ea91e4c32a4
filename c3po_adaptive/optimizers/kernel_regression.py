"""Kernel regression of pathways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..checks import Share
from ..problem import Problem
from .toward_mean import TowardMean, between


@dataclass(frozen=True)
class KernelRegression(TowardMean):
    """Move ω toward the kernel mean of the neighbours' pathways: ω ← α ω + (1 − α) ω̂, ω̂ = Σ K ω_i / Σ K.

    C3PO (arXiv 2504.07964), kernel regression. α is the one that lowers the neighbours' loss most, among ``points``
    evenly spaced values from 1 (stay) to 0 (all the way), or a fixed number.
    """

    alpha: Share | Literal["search"] = "search"
    points: Annotated[int, Field(ge=2, description="alpha is searched among them")] = 5
    name: ClassVar[str] = "kernel-regression"

    @torch.no_grad()
    def share(self, problem: Problem, mean: Tensor) -> Tensor:
        stay = problem.own.new_ones(len(problem.own))
        if self.alpha != "search":
            return self.alpha * stay
        best, lowest = stay, problem.loss(problem.own)
        for alpha in torch.linspace(1, 0, self.points)[1:].tolist():
            loss = problem.loss(between(problem.own, mean, alpha * stay))
            best, lowest = torch.where(loss < lowest, alpha * stay, best), torch.minimum(loss, lowest)
        return best
