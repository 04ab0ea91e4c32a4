"""The function that is attributed: from explicit pathways to a scalar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError, suggestion
from ..problem import Loss, Problem
from ..types import Attributable


@dataclass(eq=False)
class PathwayFunction:
    """f(Ω): R pathways, each of one sample of the problem, to R scalars, differentiable. It never sees a label.

    Attributes:
        problem: of B samples.
        of: a name, or any function of the problem that returns a ``Loss``.
        passes: tail passes of the whole batch so far: one per call, two more if a backward pass can follow.
    """

    problem: Problem
    of: Attributable | Callable[[Problem], Loss] = "neighbours"
    passes: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        named = isinstance(self.of, str) and self.of in get_args(Attributable)
        if not (named or callable(self.of)):
            raise SettingError(
                f"Expected of as a name, or a function of the problem, or a choice, got {self.of!r}; "
                + suggestion(str(self.of), get_args(Attributable))
            )

    def __call__(self, omega: Tensor, sample: Tensor) -> Tensor:
        """Values ``[R]`` of ``omega [R, L, E]``, the pathways of samples ``[R]``."""
        values = omega.new_zeros(len(omega))
        for rows in _rounds(sample):
            weights = self.problem.own.index_copy(0, sample[rows], omega[rows])
            whole = len(rows) == len(self.problem.own)
            running = None if whole else torch.zeros(len(weights), dtype=torch.bool).index_fill(0, sample[rows], True)
            losses = self._loss(weights, running)
            if losses.shape != weights.shape[:1]:
                raise ShapeError(
                    f"Expected the attributed function to give one value for each of {len(weights)} samples, got shape "
                    f"{tuple(losses.shape)}."
                )
            values = values.index_copy(0, rows, losses[sample[rows]].to(values.dtype))
            share = len(rows) / len(self.problem.own)
            self.passes += share * (3 if omega.requires_grad and torch.is_grad_enabled() else 1)
        return values

    @property
    def _loss(self) -> Loss:
        if callable(self.of):
            return self.of(self.problem)
        named: dict[str, Loss] = {"entropy": self.problem.entropy, "margin": self.problem.margin}
        return named.get(self.of, self.problem.loss)


def _rounds(sample: Tensor) -> list[Tensor]:
    """Rows that can be computed together: no sample twice."""
    seen: dict[int, int] = {}
    rounds: list[list[int]] = []
    for row, b in enumerate(sample.tolist()):
        turn = seen[b] = seen.get(b, -1) + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(row)
    return [torch.tensor(rows) for rows in rounds]
