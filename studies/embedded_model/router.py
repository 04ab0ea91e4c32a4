"""A router in closed form: in each layer, ridge regression from what the layer reads to the family (as DUME,
arXiv 2603.29765). Nothing is trained; each row's own expert is on while it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .apart import Row, Upper, batches

ANSWERS = 9.0  # times that a token of an answer counts: the routing of these decides


@dataclass(frozen=True)
class Routing:
    """How the router is fitted and used.

    Attributes:
        top_k: experts a token.
        sharpness: factor of the regression's scores, before the softmax.
        ridge: penalty, in units of the mean diagonal.
        answers: times that a token of an answer counts.
        renormalized: whether the weights of the best sum to one.
    """

    top_k: int = 2
    sharpness: float = 12.0
    ridge: float = 1e-2
    answers: float = ANSWERS
    renormalized: bool = True


class Moments:
    """Sums that ridge regression needs, of one layer: ``xx [H, H]``, ``xy [H, E]``, and the weight by family."""

    def __init__(self, hidden: int, experts: int) -> None:
        self.xx = torch.zeros(hidden, hidden, dtype=torch.float64)
        self.xy = torch.zeros(hidden, experts, dtype=torch.float64)
        self.x = torch.zeros(hidden, dtype=torch.float64)
        self.count = torch.zeros(experts, dtype=torch.float64)

    def add(self, x: Tensor, expert: Tensor, weight: Tensor) -> None:
        """Tokens ``x [N, H]`` of families ``expert [N]``, counted ``weight [N]`` times."""
        weighted = x.double() * weight.double()[:, None]
        self.xx += x.double().T @ weighted
        self.xy.index_add_(1, expert, weighted.T)
        self.x += weighted.sum(0)
        self.count.index_add_(0, expert, weight.double())

    def solve(self, penalty: float) -> Tensor:
        """Rows ``[E, H]``: scores are ``x @ rows.T``. A router has no bias, so that targets are centred instead."""
        share = self.count / self.count.sum()
        xy = self.xy - self.x[:, None] * share
        damped = self.xx + penalty * self.xx.diagonal().mean() * torch.eye(len(self.xx), dtype=torch.float64)
        return torch.linalg.solve(damped, xy).T.float()


@torch.no_grad()
def moments(
    upper: Upper, rows: Sequence[Row], states: Sequence[Tensor], answers: float = ANSWERS
) -> dict[int, Moments]:
    """By layer, over all tokens of the rows; each family counts alike."""
    recipe, hidden = upper.recipe, upper.dense[0].config.hidden_size
    found = {i: Moments(hidden, recipe.experts) for i in recipe.layers}
    read: dict[int, Tensor] = {}
    hooks = [
        upper.experts[str(i)].register_forward_pre_hook(lambda _, args, i=i: read.update({i: args[0]}))
        for i in recipe.layers
    ]
    size = torch.zeros(recipe.experts)
    for row in rows:
        size[row.expert] += len(row.ids) + (answers - 1) * (len(row.ids) - row.start) * (row.start > 1)
    for part in batches(rows, range(len(rows)), 4096):
        chosen = [rows[i] for i in part]
        expert = torch.tensor([row.expert for row in chosen])
        upper(nn.utils.rnn.pad_sequence([states[i] for i in part], batch_first=True), expert)
        real = [(b, t) for b, row in enumerate(chosen) for t in range(len(row.ids))]
        owner, at = (torch.tensor(x) for x in zip(*real, strict=True))
        weight = (
            torch.tensor([answers if chosen[b].start > 1 and t >= chosen[b].start - 1 else 1.0 for b, t in real])
            / size[expert[owner]]
        )
        for i in recipe.layers:
            found[i].add(read[i][owner, at], expert[owner], weight)
    for hook in hooks:
        hook.remove()
    return found


def routers(found: dict[int, Any], how: Routing) -> dict[int, Tensor]:
    """Rows of each layer's router ``[E, H]``."""
    return {i: how.sharpness * moment.solve(how.ridge) for i, moment in found.items()}
