"""Single-layer effects, judged by the question's own label: an upper bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from ..errors import SettingError
from ..problem import LabeledProblem, Problem
from .causal import Causal


@dataclass(frozen=True, kw_only=True)
class OracleLayers(Causal):
    """Layers whose single-layer effects make the right answer likelier most: an upper bound that uses the label.

    ``optimizer`` re-mixes without the label, as it does in the end; only which layers it is let loose on is chosen by
    the label. Layers that would do harm are left, all of them if need be.
    """

    name: ClassVar[str] = "oracle-layers"
    needs_label: ClassVar[bool] = True

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        if not isinstance(problem, LabeledProblem):
            raise SettingError("oracle-layers expected questions with known answers, got a problem without labels.")
        return self.single_layer_effects(problem, lambda p: cast(LabeledProblem, p).label_loss), None
