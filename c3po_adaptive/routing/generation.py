"""The rule of a pathway while text is generated."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import SettingError
from ..types import Pathway
from .change import Change
from .rules import PathwayRule


@dataclass(eq=False)
class DecodingRule:
    """ω at the last token of each (left-padded) prompt, then Δω on every new token, if the pathway's scope says so.

    The first call of a layer is the prompt, every later one a step. Beams and returned sequences of a sample follow
    each other.

    Attributes:
        pathway: ω of each prompt.
        width: tokens of a prompt, padding included.
        copies: for each MoE layer that has seen the prompts, how often each is decoded side by side.
    """

    pathway: Pathway
    width: int
    copies: dict[int, int] = field(default_factory=dict)

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        p, n, rows = self.pathway, len(self.pathway.weights), len(index)
        prompted = position in self.copies
        copies = self.copies.setdefault(position, rows // (n * self.width))
        if rows != n * copies * (1 if prompted else self.width):
            raise SettingError(
                f"Expected whole prompts at first and then one token per step, got {rows} tokens for {n} prompts of "
                f"{self.width}; generate with use_cache=True, without prefill_chunk_size or an assistant."
            )
        owner = torch.arange(n).repeat_interleave(copies)
        replaced, shifted = torch.full((2, rows), -1)
        if not prompted:
            replaced[self.width - 1 :: self.width] = owner
        elif p.scope == "answer":
            shifted = owner
        else:
            return None
        return PathwayRule(p.weights, p.own, replaced, shifted, p.changed(), top_k=p.top_k)(position, index, weights)
