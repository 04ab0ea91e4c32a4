"""Whether a model knows more than guessing does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..records.answer import ScoredAnswer
from . import statistics as stats

ABOVE = 0.05
"""Below this p a model is said to be above chance."""


@dataclass(frozen=True)
class AboveChance:
    """How right answers are beside guessing.

    Attributes:
        accuracy: percent.
        chance: percent, the mean over questions of one over their choices.
        p: of at least as many right answers by guessing: one-sided, exact.
    """

    accuracy: float
    chance: float
    p: float

    @property
    def shown(self) -> bool:
        """Whether the model is above chance."""
        return self.p < ABOVE


def above_chance(records: Iterable[ScoredAnswer]) -> AboveChance:
    """Of an arm's records, in whichever data sets, every question alike; of several draws of a question the first.

    The number of right guesses is Poisson binomial: each question has a probability of its own, one over its choices.
    """
    first = {(r.dataset, r.id): r for r in reversed(list(records))}.values()
    chances = [stats.chance(r) for r in first]
    right = sum(int(r.correct) for r in first)
    return AboveChance(100 * right / len(chances), 100 * sum(chances) / len(chances), _at_least(right, chances))


def _at_least(right: int, chances: list[float]) -> float:
    """Probability of at least so many successes; by one convolution a question, all terms positive."""
    distribution = np.ones(1)
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    return float(min(1.0, distribution[right:].sum()))
