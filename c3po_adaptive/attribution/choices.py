"""What of a sample's choices is attributed: the likelihood of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from ..errors import SettingError, suggestion
from ..problem import Loss, Problem
from ..types import Attributable

PlaceOrText = int | str
"""One of a sample's choices: its place, from 0 on, or its text."""
EXPECTED = "Expected of as a name, or a function of the problem, or a choice"


def is_named(of: Any) -> bool:
    """Whether it is a name of ``Attributable``."""
    return isinstance(of, str) and of in get_args(Attributable)


def likelihood_of(problem: Problem, chosen: PlaceOrText | Sequence[PlaceOrText]) -> Callable[[Problem], Loss]:
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
        raise SettingError(f"{EXPECTED} (its place or its text), got {choice!r}.")
    texts = problem.choices[b] if problem.choices else ()
    if choice not in texts:
        known = ", ".join(map(repr, texts)) or "not known here: name it by its place, from 0 on"
        near = suggestion(str(choice), get_args(Attributable))
        raise SettingError(f"{EXPECTED} of sample {b} ({known}), got {choice!r}; {near}")
    return texts.index(choice)
