"""Single-layer effects: what attribution only estimates, measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from pydantic import InstanceOf
from torch import Tensor

from ..errors import SettingError
from ..optimizers.base import PathwayOptimizer
from ..problem import Loss, Problem, TrainingReferences
from ._single_layer import single_layer_benefit
from .scored import ScoredLayers


@dataclass(frozen=True, kw_only=True)
class Causal(ScoredLayers):
    """Layers with the largest single-layer effects on the neighbours' loss: an upper bound in cost, not for use.

    Every MoE layer is re-mixed by ``optimizer`` (None: the run's own) with all others left as they are, so that a
    selection costs as many descents as there are layers.
    """

    optimizer: InstanceOf[PathwayOptimizer] | None = None
    name: ClassVar[str] = "causal"

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, optimizer=self.optimizer or training.optimizer)

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        return self.single_layer_effects(problem, lambda p: p.loss), None

    def single_layer_effects(self, problem: Problem, loss: Callable[[Problem], Loss]) -> Tensor:
        """``[B, L]`` by how much ``loss`` falls when only that layer is re-mixed."""
        if self.optimizer is None:
            raise SettingError(f"{self.name} expected an optimizer to re-mix layers with, got none; pass optimizer=….")
        return single_layer_benefit(problem, self.optimizer, self.core_size(problem), loss)
