"""Experts by a policy that was learned by trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..checks import check_number
from ..errors import SettingError
from ..problem import Problem
from .reinforced import Reinforced


@dataclass(frozen=True, kw_only=True)
class RLExperts(Reinforced):
    """A policy over groups of experts (see ``Reinforced``), in all layers: the router's first E / ``groups``, the next
    as many, and so on; each group is taken or left.
    """

    groups: int = 8
    name: ClassVar[str] = "rl-experts"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "groups", at_least=1, whole=True)

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        if self.groups > experts:
            raise SettingError(f"Expected groups of at most {experts} experts, got {self.groups} groups; take fewer.")

    def parts(self, problem: Problem) -> int:
        self.fits(problem.layers, problem.own.shape[-1])
        return self.groups

    def mask(self, problem: Problem, taken: Tensor) -> Tensor:
        rank = problem.ranking.argsort(-1, descending=True).argsort(-1)
        group = rank * self.groups // problem.own.shape[-1]
        each = taken[:, None].expand(-1, group.shape[1], -1)
        return torch.gather(each, -1, group)
