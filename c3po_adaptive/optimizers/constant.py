"""One change of the pathway for all questions: what choosing by question has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..errors import SettingError
from ..problem import LabeledProblem, Problem, ReferenceArtifact, TrainingReferences
from ..types import Changes
from ._reference_artifacts import GRADIENT, INTEGRATED_GRADIENT, integrated_gradient
from ._simplex import allowed_experts
from .base import PathwayOptimizer
from .descent import Descent
from .integrated_step import IntegratedStep


@dataclass(frozen=True)
class OneForAll(PathwayOptimizer):
    """Steps along the mean slope of all references, the same for whatever is asked.

    A control: the mean over all references (that may be neighbours, by ``learn_from``) is what the sum over a
    question's neighbours becomes where every reference is a neighbour and every weight is equal. It needs no
    neighbours, and a question costs no more than its answer along ω. The steps begin at the question's own ω0, so that
    each layer keeps its mass and no weight falls below zero: one Δω as far as ω0 allows it.

    References that are asked in the same run teach nothing; nor do those that a selector learns from.

    Attributes:
        slope: ``[L, E]`` learned, in nats per unit of weight.
        count: of how many references it is the mean.
        taught: what it is the mean of.
    """

    slope: Tensor | None = field(default=None, repr=False, compare=False)
    count: int = field(default=0, repr=False, compare=False)
    taught: ClassVar[ReferenceArtifact]
    needs_neighbours: ClassVar[bool] = False
    changes: ClassVar[Changes] = "same"

    @property
    def references_needed(self) -> int:
        return 1  # at least; it takes all there are

    def prepare(self, training: TrainingReferences) -> Self:
        each = training.of_references(self.taught)
        return replace(self, slope=each.mean(0), count=len(each))

    @property
    def learned(self) -> Tensor:
        """The slope.

        Raises:
            SettingError: nothing was learned yet.
        """
        if self.slope is None:
            raise SettingError(
                f"{self.name} expected references to learn from first; use it through Optimizer or a run."
            )
        return self.slope


@dataclass(frozen=True)
class Constant(OneForAll, Descent):
    """The steps of ``amortized-ngd`` along the mean gradient of all references."""

    name: ClassVar[str] = "constant"
    taught: ClassVar[ReferenceArtifact] = GRADIENT

    def optimize(self, problem: Problem) -> Tensor:
        slope = self.learned

        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            return (slope * (weights - problem.own)).sum((1, 2))

        return self.descend(loss, problem)


@dataclass(frozen=True)
class ConstantIntegratedStep(OneForAll, IntegratedStep):
    """The step of ``integrated-step`` along the mean integrated gradient of all references. Its best rate on validation
    questions of the embedded model was 30 (``studies/answer``)."""

    name: ClassVar[str] = "constant-integrated-step"
    taught: ClassVar[ReferenceArtifact] = INTEGRATED_GRADIENT

    def prepare(self, training: TrainingReferences) -> Self:
        return IntegratedStep.prepare(super().prepare(training), training)

    def optimize(self, problem: Problem) -> Tensor:
        return self.step(problem, self.learned)

    def _taught(self, problem: LabeledProblem) -> Tensor:
        """The mean without the reference that is asked."""
        if self.count < 2:
            raise SettingError(f"{self.name} expected two references at least to choose its rate by; give lr.")
        with torch.enable_grad():
            own = integrated_gradient(problem.label_loss, problem.own, allowed_experts(problem))
        return (self.count * self.learned - own) / (self.count - 1)
