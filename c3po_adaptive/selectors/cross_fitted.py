"""Layers that neighbours agree on, and no others: perhaps none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..checks import check_number
from ..optimizers._agreement import Agreement, noise_level
from ..optimizers._reference_artifacts import GRADIENT
from ..problem import Problem
from .gradient import eligible_experts
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class CrossFitted(Scored):
    """Layers in which the neighbours' kept gradients agree by more than noise would let them: no pass per question.

    A layer's z is what a step learned from all neighbours but one would lower that one's loss by, on average, over its
    standard error (see ``Agreement``). Its score is by how much z exceeds what noise reaches in the best of all layers
    with probability ``level``; so a sample whose neighbours agree on nothing is left alone but for that share.

    Experts' scores are likewise: of each, by how many standard errors the neighbours agree on it.

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
        check_number(self, "level", above=0, at_most=1)
        check_number(self, "flips", at_least=19, whole=True, hint="an error level of 0.05 needs 19 at least")

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        able = eligible_experts(problem, None, self.core_size(problem)) | (problem.own > 0)
        agreement = Agreement.of(problem.of_neighbours(GRADIENT), problem.neighbours.weight, able)
        return agreement.z - noise_level(agreement, self.level, self.flips)[:, None], agreement.each.clamp_min(0)
