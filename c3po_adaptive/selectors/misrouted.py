"""Layers that route wrongly: where what the other neighbours teach would have helped a neighbour."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from ..checks import Share
from ..optimizers._reference_artifacts import INTEGRATED_GRADIENT
from ..optimizers.integrated_step import stepped
from ..problem import Problem, TrainingReferences
from .gradient import eligible_experts
from .scored import ScoredLayers

_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Misrouted(ScoredLayers):
    """A layer's score is what a step learned from all neighbours but one lowers that one's loss by, in nats, on
    average over the neighbours: Σ K_i ⟨ω0 − ω₋ᵢ, ḡ_i⟩.

    ω₋ᵢ is the step of ``integrated-step`` from the question's ω0 without neighbour i, and ḡ_i that neighbour's
    integrated gradient, so that noise, which neighbours do not share, adds nothing on average. The length of a mean
    gradient (``amortized``, ``gradient``) is large wherever routing has a say, right or wrong: it finds leverage. This
    is large where another routing than ω0 would have been better for questions like it. It leans to the first layers
    all the same: of the embedded model's twelve it ranks the first eight above the others in 0.98 of all pairs where
    these are broken, and in 0.63 where nothing is; with thirty references a kind, in 0.94 and 0.82
    (``studies/answer``).

    A router that is wrong is wrong for many: half of the score is the layer's usual one, of references that are asked
    as questions are. No pass per question.

    Attributes:
        lr: of the step that is tried.
        training: references that the usual scores are of; 0: none, each question's own score is the whole.
        usual: share of the usual scores.
        scores: ``[L]`` the usual ones, learned.
    """

    experts: int | None = None
    lr: PositiveFloat = 200.0
    training: NonNegativeInt = 64
    usual: Share = 0.5
    scores: Tensor | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "misrouted"

    @property
    def references_needed(self) -> int:
        return self.training

    def prepare(self, training: TrainingReferences) -> Self:
        if self.training == 0:
            return self

        def learn() -> dict[str, Tensor]:
            asked = [self._own(problem) for problem in training.problems(self.training)]
            return {"scores": torch.cat(asked).mean(0)}

        return replace(self, scores=training.once(self, learn)["scores"])

    def score(self, problem: Problem) -> tuple[Tensor, None]:
        own = self._own(problem)
        return own if self.scores is None else torch.lerp(own, self.scores.to(own), self.usual), None

    def _own(self, problem: Problem) -> Tensor:
        """``[B, L]`` of each question alone; zero without two neighbours."""
        weight, each = problem.neighbours.weight[:, :, None, None], problem.of_neighbours(INTEGRATED_GRADIENT)
        terms = weight * each
        others = (terms.sum(1, keepdim=True) - terms) / (1 - weight).clamp_min(_TINY)
        own = problem.own[:, None]
        movable = problem.changeable(eligible_experts(problem, None, self.core_size(problem)))[:, None]
        lowered = ((own - stepped(own, movable, others, self.lr)) * terms).sum((1, 3))
        several = (problem.neighbours.weight > 0).sum(1, keepdim=True) > 1
        return lowered * several
