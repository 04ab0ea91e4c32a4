"""The paper's setting: the same layers for every question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt

from ..errors import SettingError
from ..problem import Problem
from ..routing.mixing import CORE, core, core_size
from ..types import Selection
from .base import LayerSelector

Experts = Annotated[int, Field(ge=1, description="None (null) takes all of a layer")] | None
"""How many of a layer, at most."""


@dataclass(frozen=True)
class Fixed(LayerSelector):
    """``n`` layers at one end (or the middle, or a list of decoder layers), and in each the router's top ``experts``
    (None: all).

    C3PO (arXiv 2504.07964) takes the last five layers and the top-20 core experts, of layers of 64: where a layer has
    fewer than 20, all of them.
    """

    layers: Annotated[
        Literal["last", "first", "middle", "all"] | tuple[int, ...], Field(description="how many layers is n")
    ] = "last"
    n: NonNegativeInt = 5
    experts: Experts = CORE
    name: ClassVar[str] = "fixed"
    needs_neighbours: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):  # a list is what YAML gives
            object.__setattr__(self, "layers", tuple(self.layers))
        super().__post_init__()

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        if self._positions(layers):
            check_experts(self.experts, experts)

    def select(self, problem: Problem) -> Selection:
        positions = self._positions(problem.layers)
        mask = torch.zeros_like(problem.router, dtype=torch.bool)
        if positions:
            mask[:, positions] = core(problem.ranking[:, positions], check_experts(self.experts, mask.shape[-1]))
        return Selection(mask)

    def _positions(self, layers: tuple[int, ...]) -> list[int]:
        if isinstance(self.layers, tuple):
            missing = sorted(set(self.layers) - set(layers))
            if missing:
                raise SettingError(f"Expected layers among the MoE layers {layers}, got {missing}.")
            return [layers.index(x) for x in self.layers]
        count = len(layers) if self.layers == "all" else check_layers(self.n, layers, self.name)
        first = {"last": len(layers) - count, "middle": (len(layers) - count) // 2, "first": 0, "all": 0}[self.layers]
        return list(range(first, first + count))


def check_layers(n: int, problem_layers: tuple[int, ...], selector: str = "") -> int:
    """``n``, or SettingError if the model has fewer MoE layers; the selector of that name takes fewer by its ``n``."""
    if n > (most := len(problem_layers)):
        fewer = f': selector={{"name": "{selector}", "n": {most}}}' if selector else ""
        raise SettingError(f"Expected at most {most} layers (the model's MoE layers), got {n}; ask for fewer{fewer}.")
    return n


def check_experts(n: int | None, count: int) -> int:
    """``n``, or all for None; SettingError if a layer has fewer than n, ``count``, unless n is the paper's."""
    size = core_size(n, count)
    if size > count:
        raise SettingError(f"Expected at most {count} experts (all of a layer), got {n}; ask for fewer, or None: all.")
    return size
