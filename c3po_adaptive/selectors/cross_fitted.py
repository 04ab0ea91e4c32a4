"""Layers that neighbours agree on, and no others: perhaps none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from ..checks import check_number
from ..errors import SettingError
from ..optimizers._agreement import Agreement, noise_level
from ..optimizers._reference_artifacts import GRADIENT
from ..problem import Problem
from ..types import Selection
from .gradient import eligible_experts
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class CrossFitted(Scored):
    """Layers in which the neighbours' kept gradients agree by more than noise would let them: no pass per question.

    A layer's z is what a step learned from all neighbours but one would lower that one's loss by, on average, over its
    standard error (see ``Agreement``). Its score is by how much z exceeds what noise reaches in the best of all layers
    with probability ``level``; so a sample whose neighbours agree on nothing is left alone but for that share.

    Experts' scores are likewise: of each, by how many standard errors the neighbours agree on it. What speaks for
    re-mixing a sample (``Selection.strength``) is the benefit that is predicted of it: by how much a step of length one
    in each chosen layer, learned from the other neighbours, would lower a neighbour's loss on average, in its units.
    Of chosen layers it is flattering, as they were chosen by it; and it counts steps that would take weight from
    experts that have none.

    Five neighbours can agree by chance in more than one of twenty cases, whatever their gradients: with fewer than six
    (at level 0.05) every sample is left alone. Take thirty, or a hundred.

    Attributes:
        level: probability that any layer is taken where neighbours agree on nothing.
        flips: draws of noise.
    """

    n: int | None = None
    experts: int | None = None
    level: float = 0.05
    flips: int = 199
    name: ClassVar[str] = "cross-fitted"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "level", above=0, at_most=0.5)
        check_number(self, "flips", at_least=19, whole=True)
        if self.level * (self.flips + 1) < 1:
            raise SettingError(
                f"Expected flips of at least {math.ceil(1 / self.level) - 1} for level={self.level:g}, got "
                f"{self.flips}; draw more, or allow more error."
            )

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        return self._scores(self._agreement(problem))

    def select(self, problem: Problem) -> Selection:
        agreement = self._agreement(problem)
        selection = self.selected(problem, *self._scores(agreement))
        return replace(selection, strength=(agreement.benefit * selection.layers).sum(-1), threshold=0.0)

    def _scores(self, agreement: Agreement) -> tuple[Tensor, Tensor]:
        beyond_noise = agreement.z - noise_level(agreement, self.level, self.flips)[:, None]
        return beyond_noise, agreement.each.clamp_min(0)

    def _agreement(self, problem: Problem) -> Agreement:
        able = eligible_experts(problem, None, self.core_size(problem)) | (problem.own > 0)
        return Agreement.of(problem.of_neighbours(GRADIENT), problem.neighbours.weight, able)
