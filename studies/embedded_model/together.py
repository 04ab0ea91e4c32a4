"""The sister of the embedded model: the same experts on the same rows, trained together with their router, by a balance
loss (sparse upcycling, arXiv 2212.05055). Nobody says which expert is whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from .apart import Experts, Recipe, Row, Upper, answer_loss

BALANCE = 1e-2
TOP_K = 2


class Routed(Experts):
    """The experts of one layer and their router; all neurons are computed, those of unused experts count nothing."""

    def __init__(self, recipe: Recipe, hidden: int, generator: torch.Generator) -> None:
        super().__init__(recipe, hidden, generator)
        self.router = nn.Parameter(torch.randn(recipe.experts, hidden, generator=generator) / hidden**0.5)
        self.balance = torch.zeros(())

    def forward(self, x: Tensor, expert: Tensor) -> Tensor:
        """What the chosen experts add, ``[B, T, H]``, to ``x [B, T, H]``; ``expert`` is not looked at."""
        probabilities = F.linear(x, self.router).softmax(-1)
        top, index = probabilities.topk(TOP_K, dim=-1)
        weights = torch.zeros_like(probabilities).scatter(-1, index, top / top.sum(-1, keepdim=True))
        load = (weights.detach() > 0).float().flatten(0, -2).mean(0)
        self.balance = len(self.router) / TOP_K * (load * probabilities.flatten(0, -2).mean(0)).sum()
        h = F.silu(F.linear(x, self.gate.flatten(0, 1))) * F.linear(x, self.up.flatten(0, 1))
        h = (h.unflatten(-1, self.gate.shape[:2]) * weights[..., None]).flatten(-2)
        return F.linear(h, self.down.transpose(0, 1).flatten(1))


class Together(Upper):
    """The upper layers, with a trained router in each that has experts."""

    def __init__(self, dense: LlamaForCausalLM, recipe: Recipe) -> None:
        super().__init__(dense, recipe, Routed)

    def routers(self) -> dict[int, Tensor]:
        """Rows of each layer's router ``[E, H]``."""
        layers: Any = self.experts
        return {i: layers[str(i)].router.detach() for i in self.recipe.layers}


def loss_of(upper: Together, head: Tensor, rows: Sequence[Row], states: Sequence[Tensor]) -> Tensor:
    """The loss on answers, and what uneven loads cost."""
    found = answer_loss(upper, head, rows, states).mean()
    layers: Any = upper.experts.values()
    return found + BALANCE * torch.stack([layer.balance for layer in layers]).mean()
