"""Layers by what attribution says of the neighbours themselves: a selector with reference data of its own, in one file.

Input × gradient of a reference's own loss, summed over each layer's experts, says to first order what the layer's
routing weights contributed to its right answer (Shrikumar et al. 2016, arXiv 1605.01713, on the explicit pathway). It
does not depend on the question, so it is a ``ReferenceArtifact``: computed once a reference, kept with the reference
set, and lent to every question that the reference is a neighbour of, at no pass at all.

Try it: ``c3po demo --arm lent-attribution``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from c3po_adaptive import LayerSelector, Problem, ReferenceArtifact, ReferenceBatch, ScoredLayers, hookimpl


def _by_layer(references: ReferenceBatch) -> Tensor:
    """``[N, L]`` sum over each layer's experts of |ω ∂loss/∂ω| at each reference's own pathway."""
    weights = references.own.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(references.loss(weights).sum(), weights)
    return (references.own * gradient).abs().sum(-1)


BY_LAYER = ReferenceArtifact("input x gradient by layer", _by_layer)


@dataclass(frozen=True, kw_only=True)
class LentAttribution(ScoredLayers):
    """Layers that mattered to the neighbours' own right answers, by their kernel weights; no pass per question."""

    name: ClassVar[str] = "lent-attribution"

    def score(self, problem: Problem) -> tuple[Tensor, None]:
        each = problem.of_neighbours(BY_LAYER)
        return (problem.neighbours.weight.unsqueeze(-1) * each).sum(1), None


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [LentAttribution]
