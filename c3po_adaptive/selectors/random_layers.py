"""The control for every layer selector: random layers of the same number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import NonNegativeInt

from ..problem import Problem
from ..routing.mixing import CORE, core
from ..types import Selection
from .base import LayerSelector
from .fixed import Experts, check_experts, check_layers


@dataclass(frozen=True)
class RandomLayers(LayerSelector):
    """``n`` layers drawn anew for each sample, and the router's top ``experts`` in each (None: all)."""

    n: NonNegativeInt = 5
    experts: Experts = CORE
    name: ClassVar[str] = "random"
    varies: ClassVar[str] = "random layers"
    needs_neighbours: ClassVar[bool] = False

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        check_layers(self.n, layers, self.name)
        check_experts(self.experts, experts)

    def select(self, problem: Problem) -> Selection:
        count, experts = (
            check_layers(self.n, problem.layers, self.name),
            check_experts(self.experts, problem.own.shape[-1]),
        )
        draw = torch.stack([torch.rand(len(problem.layers), generator=g) for g in problem.generators])
        return Selection(core(problem.ranking, experts) & core(draw, count).unsqueeze(-1))
