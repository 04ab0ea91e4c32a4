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
    return _falls(problem, everywhere, [_rank(scores) < k for k in points])


@torch.no_grad()
def deletion(problem: LabelledProblem, everywhere: Tensor, scores: Tensor, points: Sequence[int]) -> Tensor:
    """The same with the k best layers left as they were, and all others re-mixed."""
    return _falls(problem, everywhere, [_rank(scores) >= k for k in points])


def area(curve: Tensor, points: Sequence[int], first: Tensor, last: Tensor, layers: int) -> Tensor:
    """``[B]`` mean over k from 0 to all layers of a ``curve [B, P]`` at ``points``, by trapezia; ``first`` and ``last``
    ``[B]`` are its ends.
    """
    whole = torch.cat([first[:, None], curve, last[:, None]], 1)
    return torch.trapezoid(whole, torch.tensor([0, *points, layers], dtype=curve.dtype) / layers)


def _falls(problem: LabelledProblem, everywhere: Tensor, each: Sequence[Tensor]) -> Tensor:
    before = problem.label_loss(problem.own)
    ways = [torch.where(layers.unsqueeze(-1), everywhere, problem.own) for layers in each]
    return torch.stack([before - problem.label_loss(weights) for weights in ways], 1)


def _rank(scores: Tensor) -> Tensor:
    """``[B, L]`` 0 for the best; of equal scores the earlier layer, as ``overlap`` has it."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order.argsort(-1)
