"""One step along what experts are worth to the neighbours, integrated over how much they are used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, cast

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from ..errors import SettingError
from ..problem import LabeledProblem, Problem, TrainingReferences
from ..routing.mixing import core, mass, placed
from ..types import Selection
from ._reference_artifacts import INTEGRATED_GRADIENT, integrated_gradient
from ._simplex import allowed_experts, has_neighbours
from .base import SteppingOptimizer

FLOOR = 1e-3
RATES = (0.0, 12.5, 25.0, 50.0, 100.0, 200.0, 400.0)
"""Doses that references choose among, in 1/nats."""
ASKED = 64
"""How many of them, at most, choose it."""


@dataclass(frozen=True)
class IntegratedStep(SteppingOptimizer):
    """ω ∝ (ω0 + f) exp(−η Σ K_i ḡ_i): one step of exponentiated gradient descent on the neighbours' loss.

    ḡ_i is the gradient of reference i's own loss, averaged over the way from uniform weights to its own pathway:
    integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) not multiplied by the way, by Captum, once a
    reference. The gradient at the pathway itself, which NGD follows (C3PO, arXiv 2504.07964), says what the next
    hundredth of weight does; experts change places by whole weights. On the embedded model the gradients at the two
    ends of the way have a cosine of 0.5.

    The step is that of mirror descent with entropy (Kivinen and Warmuth 1997): it keeps each layer's mass and no weight
    falls below zero, so nothing is projected; and it is plain, not Adam's, so that a small sum moves little.

    The dose that suits one model harms the next: where it is left to the references, each of some is answered at
    several rates by what the others teach, all layers re-mixed, and the rate of the lowest loss is taken, or none. A
    selector that learns may ask the same ones: of them the dose is one number among seven. A reference that is the
    question itself is never its neighbor, but may have chosen the dose where questions come later, as an ``Optimizer``
    gets them; a study leaves it out there, too.

    Attributes:
        lr: η in 1/nats; 50 was chosen on validation questions of the embedded model. None: the references choose it.
        floor: what is added to each weight before the step, as a share of its layer's mass: an expert without any
            could not gain by a factor.
        dose: the rate that references chose, learned.
        chosen_by: how many they were.
    """

    lr: NonNegativeFloat | None = 50.0
    floor: NonNegativeFloat = FLOOR
    dose: float | None = field(default=None, repr=False, compare=False)
    chosen_by: int = field(default=0, repr=False, compare=False)
    name: ClassVar[str] = "integrated-step"
    one_for_all: ClassVar[str] = "constant-integrated-step"

    @property
    def asks_references(self) -> bool:
        return self.lr is None

    def prepare(self, training: TrainingReferences) -> Self:
        if self.lr is not None:
            return self
        learned = training.once(self, lambda: {"dose": torch.tensor(self._best(training), dtype=torch.float64)})
        return replace(self, dose=float(learned["dose"]), chosen_by=min(ASKED, training.known))

    @property
    def said(self) -> dict[str, str]:
        """What a person reads of a rate that was left to references."""
        if self.lr is not None:
            return {}
        if self.dose == 0:
            return {"lr": f"0, no step: no rate helped {self.chosen_by} references"}
        by = "the references" if self.dose is None else f"{self.chosen_by} references"
        return {"lr": ("" if self.dose is None else f"{self.dose:g}, ") + f"chosen by {by}"}

    def optimize(self, problem: Problem) -> Tensor:
        return self.along(problem, self.slope(problem)) if has_neighbours(problem).any() else problem.own

    @staticmethod
    def slope(problem: Problem) -> Tensor:
        """``[B, L, E]`` Σ K_i ḡ_i of each question, the same at every rate; zero where there is no neighbour."""
        return (problem.neighbours.weight[:, :, None, None] * problem.of_neighbours(INTEGRATED_GRADIENT)).sum(1)

    def along(self, problem: Problem, slope: Tensor) -> Tensor:
        """``[B, L, E]`` the step along what neighbours teach, ``slope [B, L, E]``; ω0 of samples that have none."""
        return torch.where(has_neighbours(problem)[:, None, None], self.step(problem, slope), problem.own)

    def toward_label(self, problem: LabeledProblem) -> Tensor:
        slope = integrated_gradient(problem.label_loss, problem.own, allowed_experts(problem))
        return self.step(problem, slope)

    def step(self, problem: Problem, slope: Tensor) -> Tensor:
        """``[B, L, E]`` from ω0 along ``slope [B, L, E]`` or ``[L, E]``, in nats per unit of weight."""
        if self.rate == 0:
            return problem.own
        return stepped(problem.own, allowed_experts(problem), slope, self.rate, self.floor)

    @property
    def rate(self) -> float:
        """η: the one that was set, or that references chose.

        Raises:
            SettingError: it is left to references, and there were none yet.
        """
        if (rate := self.dose if self.lr is None else self.lr) is None:
            raise SettingError(
                f"{self.name} expected references to choose its rate by; use it through Optimizer or a run, or give lr."
            )
        return rate

    def _best(self, training: TrainingReferences) -> float:
        """Of ``RATES`` the one at which references lose least, all layers re-mixed."""
        if not training.known:
            raise SettingError(
                f"{self.name} expected references that are not asked in the run to choose its rate by, got none; give "
                "more, or lr."
            )
        losses = [self._losses(problem) for problem in training.problems(min(ASKED, training.known))]
        return RATES[int(torch.cat(losses).mean(0).argmin())]

    @torch.no_grad()
    def _losses(self, problem: LabeledProblem) -> Tensor:
        """``[B, R]`` the loss of each right answer, along the step that the others teach at each rate."""
        everything = Selection(core(problem.ranking, problem.ranking.shape[-1]))
        within = cast(LabeledProblem, problem.within(everything))
        slope = self._taught(within)
        moved = [replace(self, lr=rate).step(within, slope) for rate in RATES]
        return torch.stack([within.label_loss(weights) for weights in moved], 1)

    def _taught(self, problem: LabeledProblem) -> Tensor:
        """``[B, L, E]`` what the others teach of each reference that is asked, in nats per unit of weight."""
        if not has_neighbours(problem).any():
            raise SettingError(
                f"{self.name} expected references with neighbours to choose its rate by, got none that has any; give "
                "more, or lr."
            )
        return self.slope(problem)


def stepped(own: Tensor, allowed: Tensor, slope: Tensor, lr: float, floor: float = FLOOR) -> Tensor:
    """``[..., L, E]`` the pathway after a step from ``own`` along ``slope``, which is in nats per unit of weight, among
    ``allowed`` experts (bool), which keep their mass; others stay.
    """
    logits = (own + floor * mass(own)).log() - lr * slope
    return placed(logits.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0), allowed, own)
