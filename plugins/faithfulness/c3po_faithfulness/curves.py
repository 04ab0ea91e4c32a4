"""Insertion and deletion: layers put in, or taken out, in the order of a score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from c3po_adaptive import LabeledProblem


class Curves:
    """By how much the right answer's loss falls with some layers of B questions re-mixed, all others left as they were.

    Scores that agree on a question's best layers share what was computed for them.
    """

    def __init__(self, problem: LabeledProblem, everywhere: Tensor) -> None:
        """Of ``problem`` before selection, with ``everywhere [B, L, E]`` ω with every layer re-mixed."""
        self._problem, self._everywhere = problem, everywhere
        with torch.no_grad():
            self._before = problem.label_loss(problem.own)
        self._known: list[dict[tuple[bool, ...], float]] = [{} for _ in self._before]

    def insertion(self, scores: Tensor, points: Sequence[int]) -> Tensor:
        """``[B, P]`` with the k best layers by ``scores [B, L]``, for the numbers k of ``points``."""
        return torch.stack([self.fall(_rank(scores) < k) for k in points], 1)

    def deletion(self, scores: Tensor, points: Sequence[int]) -> Tensor:
        """``[B, P]`` with all but the k best layers by ``scores [B, L]``, for the numbers k of ``points``."""
        return torch.stack([self.fall(_rank(scores) >= k) for k in points], 1)

    @torch.no_grad()
    def fall(self, layers: Tensor) -> Tensor:
        """``[B]`` with ``layers [B, L]``."""
        keys = [tuple(row) for row in layers.tolist()]
        missing = torch.tensor([key not in known for key, known in zip(keys, self._known, strict=True)])
        if missing.any():
            weights = torch.where(layers.unsqueeze(-1), self._everywhere, self._problem.own)
            falls = self._before - self._problem.label_loss(weights, missing)
            for b in missing.nonzero().flatten().tolist():
                self._known[b][keys[b]] = float(falls[b])
        return torch.tensor([known[key] for key, known in zip(keys, self._known, strict=True)])


def area(curve: Tensor, points: Sequence[int], first: Tensor, last: Tensor, layers: int) -> Tensor:
    """``[B]`` mean over k from 0 to all layers of a ``curve [B, P]`` at ``points``, by trapezoids; ``first`` and
    ``last`` ``[B]`` are its ends.
    """
    whole = torch.cat([first[:, None], curve, last[:, None]], 1)
    return torch.trapezoid(whole, torch.tensor([0, *points, layers], dtype=curve.dtype) / layers)


def _rank(scores: Tensor) -> Tensor:
    """``[B, L]`` 0 for the best; of equal scores the earlier layer, as ``overlap`` has it."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    return order.argsort(-1)
