"""The function that is attributed: from explicit pathways to a scalar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError, suggestion
from ..problem import Loss, Problem

Attributable = Literal["neighbours", "entropy", "margin"]
"""The neighbours' loss; the entropy of the sample's own choices; or the lead of its best choice over the second."""

Choice = int | str
"""One of a sample's choices: its place, from 0 on, or its text."""


_EXPECTED = "Expected of as a name, or a function of the problem, or a choice"


def is_named(of: Any) -> bool:
    """Whether it is a name of ``Attributable``."""
    return isinstance(of, str) and of in get_args(Attributable)


def likelihood_of(problem: Problem, chosen: Choice | Sequence[Choice]) -> Callable[[Problem], Loss]:
    """What attributes the log-probability, in nats, of one choice among all choices of its sample.

    Args:
        problem: whose choices they are.
        chosen: the same for every sample, or a list with one for each.

    Raises:
        SettingError: a sample has no such choice, or its choices' texts are not known.
    """
    each = list(chosen) if isinstance(chosen, list | tuple) else [chosen] * len(problem.own)
    if len(each) != len(problem.own):
        raise SettingError(f"Expected of to be one choice for each of {len(problem.own)} samples, got {len(each)}.")
    places = torch.tensor([_place(problem, b, choice) for b, choice in enumerate(each)])

    def function(problem: Problem) -> Loss:
        def likelihood(weights: Tensor, running: Tensor | None = None) -> Tensor:
            return problem.scores(weights, running).log_softmax(-1).gather(1, places[:, None]).squeeze(1)

        return likelihood

    return function


def _place(problem: Problem, b: int, choice: Any) -> int:
    """Where a choice stands in sample b's."""
    count = int(problem.own_scores[b].isfinite().sum())
    if isinstance(choice, int) and not isinstance(choice, bool):
        if choice not in range(count):
            raise SettingError(f"Expected of to be a choice from 0 to {count - 1} of sample {b}, got {choice}.")
        return choice
    if not isinstance(choice, str):
        raise SettingError(f"{_EXPECTED} (its place or its text), got {choice!r}.")
    texts = problem.choices[b] if problem.choices else ()
    if choice not in texts:
        known = ", ".join(map(repr, texts)) or "not known here: name it by its place, from 0 on"
        near = suggestion(str(choice), get_args(Attributable))
        raise SettingError(f"{_EXPECTED} of sample {b} ({known}), got {choice!r}; {near}")
    return texts.index(choice)


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
        if not callable(self.of) and not is_named(self.of):
            raise SettingError(f"{_EXPECTED}, got {self.of!r}; {suggestion(str(self.of), get_args(Attributable))}")

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
