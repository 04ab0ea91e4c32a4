"""A planted fault undone in the pathway: an upper bound for whatever mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from c3po_adaptive import PathwayOptimizer, Problem, SettingError, toward


@dataclass(frozen=True)
class FaultUndone(PathwayOptimizer):
    """The weights that the sound routers would give the prompt's last token: an upper bound that is told the fault.

    It undoes a fault to first order: answer tokens take the last token's Δω, where each would want its own (the
    answerer ``sound-routing`` gives them that), and where routers do not renormalize the layer's mass is kept, as by
    any optimizer.
    """

    name: ClassVar[str] = "fault-undone"
    needs_neighbours: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = True

    def optimize(self, problem: Problem) -> Tensor:
        if problem.truth is None:
            raise SettingError("fault-undone expected the truth of a planted fault, got a problem without it.")
        moved = (problem.truth.sound != problem.own).any(-1, keepdim=True)
        return toward(problem, problem.truth.sound).where(moved, problem.own)
