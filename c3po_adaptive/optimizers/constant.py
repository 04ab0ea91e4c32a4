"""One change of the pathway for all questions: what choosing by question has to beat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor

from ..errors import SettingError
from ..problem import Problem, TrainingReferences
from ..types import Changes
from ._reference_artifacts import GRADIENT
from .descent import Descent


@dataclass(frozen=True)
class Constant(Descent):
    """The steps of ``amortized-ngd`` on the mean gradient of all references, the same for whatever is asked.

    A control: the mean over all references (that may be neighbours, by ``learn_from``) is what the sum over a
    question's neighbours becomes where every reference is a neighbour and every weight is equal. It needs no
    neighbours, and a question costs no more than its answer along ω. The steps begin at the question's own ω0, so that
    each layer keeps its mass and no weight falls below zero: one Δω as far as ω0 allows it.

    References that are asked in the same run teach nothing; nor do those that a selector learns from.
    """

    slope: Tensor | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "constant"
    needs_neighbours: ClassVar[bool] = False
    changes: ClassVar[Changes] = "same"

    @property
    def references_needed(self) -> int:
        return 1  # at least; it takes all there are

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, slope=training.of_references(GRADIENT).mean(0))

    def optimize(self, problem: Problem) -> Tensor:
        if self.slope is None:
            raise SettingError("constant expected references to learn from first; use it through Optimizer or a run.")
        slope = self.slope

        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            return (slope * (weights - problem.own)).sum((1, 2))

        return self.descend(loss, problem)
