"""The rule of a pathway while text is generated."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..types import Pathway
from .intercept import Change
from .rules import PathwayRule


@dataclass(eq=False)
class DecodingRule:
    """ω at the last token of each (left-padded) prompt, then Δω on every new token, if the pathway's scope says so.

    The first call of a layer is the prompt, every later one a step. Beams and returned sequences of a sample follow
    each other.
    """

    pathway: Pathway
    prompted: set[int] = field(default_factory=set)

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        n, rows = len(self.pathway.weights), len(index)
        everyone = torch.arange(n).to(index.device)
        replaced = torch.full((rows,), -1, device=index.device)
        shifted = replaced.clone()
        if position not in self.prompted:
            self.prompted.add(position)
            width = rows // n
            replaced[width - 1 :: width] = everyone
        elif self.pathway.scope == "answer":
            shifted = everyone.repeat_interleave(rows // n)
        else:
            return None
        p = self.pathway
        return PathwayRule(p.weights, p.own, replaced, shifted, p.changed(), top_k=p.top_k)(position, index, weights)
