"""Insertion and deletion: layers put in, or taken out, in the order of a score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..problem import LabelledProblem


@torch.no_grad()
def insertion(problem: LabelledProblem, everywhere: Tensor, scores: Tensor, points: Sequence[int]) -> Tensor:
    """``[B, P]`` by how much the right answer's loss falls with the k best layers by ``scores [B, L]`` re-mixed.

    Args:
        problem: before selection. everywhere: ``[B, L, E]`` ω with every layer re-mixed. points: the numbers k.
    """
    rank = scores.argsort(-1, descending=True).argsort(-1)
    before = problem.label_loss(problem.own)
    found = []
    for k in points:
        weights = torch.where((rank < k).unsqueeze(-1), everywhere, problem.own)
        found.append(before - problem.label_loss(weights))
    return torch.stack(found, 1)


def deletion(problem: LabelledProblem, everywhere: Tensor, scores: Tensor, points: Sequence[int]) -> Tensor:
    """The same with the k best layers left as they were, and all others re-mixed."""
    layers = scores.shape[1]
    return insertion(problem, everywhere, -scores, [layers - k for k in points])


def area(curve: Tensor, points: Sequence[int], layers: int) -> Tensor:
    """``[B]`` under ``curve [B, P]`` at ``points``, as the mean over 0 to all layers by trapezia."""
    return torch.trapezoid(curve, torch.tensor(points, dtype=curve.dtype) / layers)
