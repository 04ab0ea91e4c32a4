"""How routers choose among their scores, where that is more than the best k.

A bias has its say in the choice alone, and of groups of experts only the best are looked at (DeepSeek-V3, arXiv
2412.19437, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .families import table

OUTSIDE = 1e4
"""Below any score: experts of other groups come after all of those that are looked at."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Experts side by side in groups of one size.

    Attributes:
        count: how many there are.
        k: how many of them are looked at.
        pairs: whether a group counts by its two best experts together; if not, by its best one.
    """

    count: int
    k: int
    pairs: bool

    def outside(self, scores: Tensor, banned: Tensor) -> Tensor:
        """``[R, E]`` bool, experts of groups that are left out, by ``scores [R, E]``; banned ones count nothing."""
        inside = scores.masked_fill(banned, 0).unflatten(1, (self.count, -1))
        best = inside.topk(min(2, inside.shape[-1]) if self.pairs else 1, dim=-1).values.sum(-1)
        left_out = torch.ones_like(best, dtype=torch.bool).scatter(1, best.topk(self.k, dim=-1).indices, False)
        return left_out.repeat_interleave(inside.shape[-1], dim=1)


def groups_of(router: nn.Module, *, pairs: bool) -> Groups | None:
    """A router's groups by its own settings; None: it has none."""
    counts = (getattr(router, name, None) for name in table().names["groups"])
    count = next((n for n in counts if isinstance(n, int)), 1)
    k = getattr(router, "topk_group", None)
    limited = count > 1 and isinstance(k, int) and getattr(router, "topk_method", "") != "greedy"
    return Groups(count, int(k), pairs) if limited and k else None


def selected(scores: Tensor, k: int, groups: Groups | None, banned: Tensor, forced: Tensor) -> Tensor:
    """The k experts ``[R, k]`` that are chosen by ``scores [R, E]``.

    Args:
        scores: finite, with the selection bias.
        k: how many.
        groups: of which only some are looked at; where they hold fewer than k, others follow.
        banned: ``[E]`` bool, never chosen.
        forced: ``[E]`` bool, chosen first, whatever their group.
    """
    if groups is not None:
        scores = scores - OUTSIDE * groups.outside(scores, banned)
    return scores.masked_fill(banned, -torch.inf).masked_fill(forced, torch.inf).topk(k, dim=-1).indices


def selection_bias(router: nn.Module, called_with: Iterable[Any], n_experts: int) -> Tensor | None:
    """``[E]`` what a router adds to its scores when it chooses: its own, or what it is ``called_with``.

    The bias of its matrix is none: that is in its logits already.
    """
    own = (
        tensor
        for name, tensor in [*router.named_buffers(), *router.named_parameters()]
        if "bias" in name and name.rpartition(".")[2] != "bias"
    )
    vectors = (one for one in called_with if isinstance(one, Tensor) and one.ndim == 1)
    for tensor in (*vectors, *own):
        if tensor.numel() == n_experts and tensor.is_floating_point():
            return tensor.detach().flatten().float()
    return None
