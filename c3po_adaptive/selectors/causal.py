"""Every layer re-mixed alone: what attribution only estimates, measured; with the label, an upper bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, cast

from torch import Tensor

from ..errors import SettingError
from ..optimizers.base import PathwayOptimizer
from ..optimizers.ngd import NGD
from ..problem import LabelledProblem, Problem
from .alone import benefit_alone
from .fixed import check_experts
from .scored import Scored


@dataclass(frozen=True, kw_only=True)
class Causal(Scored):
    """Layers that lower the neighbours' loss most when re-mixed alone: an upper bound in cost, not for use.

    Every MoE layer is re-mixed by ``optimizer`` with all others left as they are, so that a selection costs as many
    descents as there are layers.
    """

    optimizer: PathwayOptimizer = field(default_factory=NGD)
    name: ClassVar[str] = "causal"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        experts = check_experts(self.experts, problem)
        return benefit_alone(problem, self.optimizer, experts, lambda p: p.loss), None


@dataclass(frozen=True, kw_only=True)
class OracleLayers(Scored):
    """Layers that make the right answer likelier when re-mixed alone: an upper bound that uses the label.

    ``optimizer`` re-mixes without the label, as it does in the end; only which layers it is let loose on is chosen by
    the label. Layers that would do harm are left, all of them if need be.
    """

    optimizer: PathwayOptimizer = field(default_factory=NGD)
    name: ClassVar[str] = "oracle-layers"
    needs_label: ClassVar[bool] = True

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        if not isinstance(problem, LabelledProblem):
            raise SettingError("oracle-layers expected questions with known answers, got a problem without labels.")
        experts = check_experts(self.experts, problem)
        return benefit_alone(problem, self.optimizer, experts, lambda p: cast(LabelledProblem, p).label_loss), None
