"""R2-T2's kernel regression: how far to the neighbours' mean is found by bisection, in one file.

Li, Li and Zhou 2025, "R2-T2: Re-Routing in Test-Time for Multimodal Mixture-of-Experts" (ICML, arXiv 2502.20395, kernel
regression): ω ← α ω + (1 − α) ω̂ with ω̂ = Σ K ω_i / Σ K over k = 5 neighbours that the model answers right, Gaussian
kernel, and α = argmin L(α), the neighbours' loss, by binary search. There ω is one vector of vision experts' weights;
here it is a pathway of all selected layers. What the paper claims: its three ways of re-routing raise the accuracy of
multimodal models on benchmarks of diverse tasks, gradient descent (NGD) most.

The released code has gradient descent alone, so what the search compares is ours: each step halves the interval of α by
the sign of dL/dα in its middle, one forward and one backward pass of the neighbours. Where L has several minima a
bisection may end in a poor one, so the best α that it met is taken, staying (α = 1) included. k is the retriever's:
``retriever: {name: faiss-knn, k: 5}``, as in studies/rivals.

Try it: ``c3po demo --arm r2t2-kernel-regression`` (with 3 neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from c3po_adaptive import PathwayOptimizer, Problem, TowardMean, hookimpl


@dataclass(frozen=True)
class R2T2KernelRegression(TowardMean):
    """Kernel regression with α by bisection on the neighbours' loss; its interval halves with every step."""

    steps: NonNegativeInt = 5
    name: ClassVar[str] = "r2t2-kernel-regression"
    one_for_all: ClassVar[str] = ""  # its steps are of a bisection

    def share(self, problem: Problem, mean: Tensor) -> Tensor:
        best = problem.own.new_ones(len(problem.own))
        if self.steps == 0:
            return best
        with torch.no_grad():
            lowest = problem.loss(problem.own)
        low, high = torch.zeros_like(best), best
        for _ in range(self.steps):
            middle = (low + high) / 2
            loss, rising = _loss_along(problem, mean, middle)
            best, lowest = torch.where(loss < lowest, middle, best), torch.minimum(loss, lowest)
            low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
        return best


def _loss_along(problem: Problem, mean: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """``[B]`` the neighbours' loss at α, and whether it rises with α."""
    alpha = alpha.clone().requires_grad_()
    with torch.enable_grad():
        omega = mean + alpha[:, None, None] * (problem.own - mean)
        loss = problem.loss(omega)
        (slope,) = torch.autograd.grad(loss.sum(), alpha)
    return loss.detach(), slope > 0


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [R2T2KernelRegression]
