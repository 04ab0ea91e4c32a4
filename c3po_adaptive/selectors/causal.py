"""Every layer re-mixed alone: what attribution only estimates, measured; with the label, an upper bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self, cast

from torch import Tensor

from ..checks import check_part
from ..errors import SettingError
from ..optimizers.base import PathwayOptimizer
from ..problem import LabelledProblem, Loss, Practice, Problem
from .alone import benefit_alone
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class Causal(Scored):
    """Layers that lower the neighbours' loss most when re-mixed alone: an upper bound in cost, not for use.

    Every MoE layer is re-mixed by ``optimizer`` (None: the run's own) with all others left as they are, so that a
    selection costs as many descents as there are layers.
    """

    optimizer: PathwayOptimizer | None = None
    name: ClassVar[str] = "causal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer is not None:
            check_part(self, "optimizer", PathwayOptimizer)

    def prepare(self, practice: Practice) -> Self:
        return replace(self, optimizer=self.optimizer or practice.optimizer)

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        return self._alone(problem, lambda p: p.loss), None

    def _alone(self, problem: Problem, loss: Callable[[Problem], Loss]) -> Tensor:
        if self.optimizer is None:
            raise SettingError(f"{self.name} expected an optimizer to re-mix layers with, got none; pass optimizer=….")
        return benefit_alone(problem, self.optimizer, self.core_size(problem), loss)


@dataclass(frozen=True, kw_only=True)
class OracleLayers(Causal):
    """Layers that make the right answer likelier when re-mixed alone: an upper bound that uses the label.

    ``optimizer`` re-mixes without the label, as it does in the end; only which layers it is let loose on is chosen by
    the label. Layers that would do harm are left, all of them if need be.
    """

    name: ClassVar[str] = "oracle-layers"
    needs_label: ClassVar[bool] = True

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        if not isinstance(problem, LabelledProblem):
            raise SettingError("oracle-layers expected questions with known answers, got a problem without labels.")
        return self._alone(problem, lambda p: cast(LabelledProblem, p).label_loss), None
