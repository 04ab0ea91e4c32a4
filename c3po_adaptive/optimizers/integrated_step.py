"""One step along what experts are worth to the neighbours, integrated over how much they are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_number
from ..problem import LabeledProblem, Problem
from ..routing.mixing import mass, with_mass
from ._reference_artifacts import INTEGRATED_GRADIENT, integrated_gradient
from ._simplex import allowed_experts, has_neighbours
from .base import SteppingOptimizer

FLOOR = 1e-3


@dataclass(frozen=True)
class IntegratedStep(SteppingOptimizer):
    """ω ∝ (ω0 + f) exp(−η Σ K_i ḡ_i): one step of exponentiated gradient descent on the neighbours' loss.

    ḡ_i is the gradient of reference i's own loss, averaged over the way from uniform weights to its own pathway:
    integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) not multiplied by the way, by Captum, once a
    reference. The gradient at the pathway itself, which NGD follows (C3PO, arXiv 2504.07964), says what the next
    hundredth of weight does; experts change places by whole weights. On the embedded model the gradients at the two
    ends of the way have a cosine of 0.5.

    The step is that of mirror descent with entropy (Kivinen and Warmuth 1997): it keeps each layer's mass and no weight
    falls below zero, so nothing is projected; and it is plain, not Adam's, so that a small sum moves little.

    Attributes:
        lr: η in 1/nats; 50 was chosen on validation questions of the embedded model.
        floor: what is added to each weight before the step, as a share of its layer's mass: an expert without any
            could not gain by a factor.
    """

    lr: float = 50.0
    floor: float = FLOOR
    name: ClassVar[str] = "integrated-step"
    one_for_all: ClassVar[str] = "constant-integrated-step"

    def __post_init__(self) -> None:
        check_number(self, "lr", at_least=0)
        check_number(self, "floor", at_least=0)

    def optimize(self, problem: Problem) -> Tensor:
        eligible = has_neighbours(problem)
        if not eligible.any():
            return problem.own
        weight = problem.neighbours.weight[:, :, None, None]
        slope = (weight * problem.of_neighbours(INTEGRATED_GRADIENT)).sum(1)
        return torch.where(eligible[:, None, None], self.step(problem, slope), problem.own)

    def toward_label(self, problem: LabeledProblem) -> Tensor:
        allowed = allowed_experts(problem)
        movable = torch.where(allowed.any(-1, keepdim=True), allowed, problem.own > 0)
        return self.step(problem, integrated_gradient(problem.label_loss, problem.own, movable))

    def step(self, problem: Problem, slope: Tensor) -> Tensor:
        """``[B, L, E]`` from ω0 along ``slope [B, L, E]`` or ``[L, E]``, in nats per unit of weight."""
        if self.lr == 0:
            return problem.own
        allowed = allowed_experts(problem)
        moved = stepped(problem.own, allowed, slope, self.lr, self.floor)
        return torch.where(allowed.any(-1, keepdim=True), moved, problem.own)


def stepped(own: Tensor, allowed: Tensor, slope: Tensor, lr: float, floor: float = FLOOR) -> Tensor:
    """``[..., L, E]`` weights of the same mass after a step from ``own`` along ``slope``, which is in nats per unit of
    weight, with nothing on experts that are not ``allowed`` (bool); NaN in layers that have none.
    """
    total = mass(own)
    logits = (own + floor * total).log() - lr * slope
    return with_mass(logits.masked_fill(~allowed, -torch.inf).softmax(-1), total)
