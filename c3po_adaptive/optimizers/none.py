"""No step: the base model, or its core experts mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..problem import Problem
from ..types import Changes
from ._simplex import toward
from .base import PathwayOptimizer


@dataclass(frozen=True)
class NoStep(PathwayOptimizer):
    """Controls: ``own`` leaves the model as it is; ``core`` mixes the selected experts by the router."""

    start: Literal["own", "core"] = "own"
    name: ClassVar[str] = "none"
    needs_neighbours: ClassVar[bool] = False

    @property
    def changes(self) -> Changes:  # type: ignore[override]  # a constant of others
        return "nothing" if self.start == "own" else "core"

    def optimize(self, problem: Problem) -> Tensor:
        return problem.own if self.start == "own" else toward(problem, problem.router)
