"""What descent looks up of each reference: its gradient, and where its own descent takes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem import Loss, ReferenceArtifact, ReferenceBatch, changeable
from ..routing.mixing import CORE, core, placed
from .descent import Descent


def _gradient(references: ReferenceBatch) -> Tensor:
    weights = references.own.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(references.loss(weights).sum(), weights)
    return gradient


GRADIENT = ReferenceArtifact("gradient", _gradient)
"""``[N, L, E]`` gradient of each reference's loss at its own pathway, over every expert of every MoE layer."""


STEPS = 1
"""Of the integral: its middle. Three (Gauss-Legendre) point the same way: a cosine of 0.99 over 300 references of
``smollm2-moe-misrouted``, with the weights of every token moved."""


def integrated_gradient(loss: Loss, own: Tensor, movable: Tensor) -> Tensor:
    """``[B, L, E]`` gradient of a loss, averaged over the way from even weights on the experts ``movable [B, L, E]``
    to ``own [B, L, E]``, by Captum.
    """
    from captum.attr import IntegratedGradients

    even = placed(torch.ones_like(own), movable, own)
    found: Tensor = IntegratedGradients(loss, multiply_by_inputs=False).attribute(
        own.clone(), even, n_steps=STEPS, internal_batch_size=len(own)
    )
    return found


def _integrated(references: ReferenceBatch) -> Tensor:
    return integrated_gradient(references.loss, references.own, references.movable)


INTEGRATED_GRADIENT = ReferenceArtifact("integrated gradient", _integrated)
"""``[N, L, E]`` gradient of each reference's loss, averaged over the way from uniform weights to its own pathway:
integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) without their factor of the way itself. In nats per
unit of an expert's weight."""


def change_by(descent: Descent) -> ReferenceArtifact:
    """``[N, L, E]`` change of each reference's pathway by a descent of its own loss, in all layers' core experts."""

    def compute(references: ReferenceBatch) -> Tensor:
        experts = min(CORE, int(references.movable[0, 0].sum()))
        movable = changeable(references, core(references.ranking, experts))
        with torch.enable_grad():
            reached = descent.descend_from(references.own, references.cheap_loss, movable)
        return reached - references.own

    return ReferenceArtifact(f"change by {descent!r}", compute)
