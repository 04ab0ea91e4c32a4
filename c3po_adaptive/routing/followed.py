"""A rule that does as another does, and writes down what becomes of the routing."""

from __future__ import annotations

import torch
from torch import Tensor

from .mixing import dense
from .router_rules import LayerRouting, RoutingRule
from .styles import Change
from .trace import NONE


class Followed:
    """What each token uses along a rule, whatever the router would have chosen.

    Args:
        rule: that is followed.
        length: T, of the sequence.
        layers: L, MoE layers.
        n_experts: E, of a layer.
        top_k: how many experts a place has at least.
    """

    def __init__(self, rule: RoutingRule, length: int, layers: int, n_experts: int, top_k: int) -> None:
        self._rule, self._top_k = rule, top_k
        self._weights = torch.full((length, layers, n_experts), torch.nan)

    def __call__(self, routing: LayerRouting) -> Change | None:
        change = self._rule(routing)
        used = dense(routing.index, routing.weights.detach(), routing.site.n_experts)
        if change is not None:
            rows = slice(None) if change.rows is None else change.rows
            used[rows] = dense(change.index, change.weights.detach(), routing.site.n_experts).to(used.device)
        real = routing.real.to(used.device)
        self._weights[routing.token[routing.real], routing.position] = used[real].cpu()
        return change

    @property
    def experts(self) -> Tensor:
        """``[T, L, n]``, the heaviest first, ``NONE`` where no layer has come by yet; n is the most of any place, and
        places with fewer have others beside them, at weight zero."""
        order = self._weights.nan_to_num(0).topk(self._most, -1).indices
        return torch.where(self._weights.isnan().any(-1, keepdim=True), NONE, order)

    @property
    def weights(self) -> Tensor:
        """``[T, L, n]`` of these experts."""
        return self._weights.nan_to_num(0).topk(self._most, -1).values

    @property
    def _most(self) -> int:
        return max(self._top_k, int((self._weights.nan_to_num(0) > 0).sum(-1).max()))
