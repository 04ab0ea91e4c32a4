"""Layers by a policy that was learned by trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..problem import Problem
from ..routing.mixing import CORE, core
from .fixed import check_core, check_experts
from .reinforced import Reinforced


@dataclass(frozen=True, kw_only=True)
class RLLayers(Reinforced):
    """A policy over layers (see ``Reinforced``): each is taken or left, and in each the router's top ``experts`` (None:
    all).
    """

    experts: int | None = CORE
    name: ClassVar[str] = "rl-layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_core(self)

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        check_experts(self.experts, experts)

    def parts(self, problem: Problem) -> int:
        return len(problem.layers)

    def mask(self, problem: Problem, taken: Tensor) -> Tensor:
        return core(problem.ranking, check_experts(self.experts, problem.own.shape[-1])) & taken[..., None]
