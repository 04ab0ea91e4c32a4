"""From a router's distribution over all experts to the weights that a layer mixes: selection by top-k, then weighing.

C3PO's pathway is that whole distribution (arXiv 2504.07964, as its released code has it): re-mixing moves it, and the
layer takes its top-k of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ._printed import in_brief

OUTSIDE = 1e4
"""Below any score: experts of other groups come after all of those that are looked at."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Experts side by side in groups of one size (DeepSeek-V3, arXiv 2412.19437, section 2.1).

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


@dataclass(frozen=True, eq=False)
class Gate:
    """How layers make weights of a router distribution ``[..., E]``, whose rows sum to one.

    Attributes:
        bias: ``[..., E]`` added to the distribution where experts are chosen, not where they are weighed (DeepSeek-V3's
            correction bias, in units of the distribution).
        scale: ``[..., 1]`` the sum of the weights where a layer renormalizes, else a weight over its probability.
        k: experts that a token uses.
        renormalized: whether the k weights of a token are brought to one sum.
        groups: of experts, of which only some are looked at; None: there are none.
    """

    bias: Tensor
    scale: Tensor
    k: int
    renormalized: bool
    groups: Groups | None = None
    __repr__ = in_brief

    def chosen(self, router: Tensor) -> Tensor:
        """``[..., E]`` bool, the k experts that are used, of ``router [..., E]``."""
        scores = (router.detach() + self.bias).flatten(0, -2)
        nobody = torch.zeros_like(scores[0], dtype=torch.bool)
        index = selected(scores, self.k, self.groups, nobody, nobody)
        return torch.zeros_like(scores, dtype=torch.bool).scatter(1, index, True).view(router.shape)

    def weights(self, router: Tensor, support: Tensor | None = None, *, core: bool = False) -> Tensor:
        """The weights ``[..., E]`` that are mixed of ``router [..., E]``, zero where an expert is not used.

        Args:
            router: the distribution; rows of zeros stay zero.
            support: ``[..., E]`` bool, experts that get a gradient though they are not used: straight through the
                top-k (Bengio et al. 2013, arXiv 1308.3432), as if it let them pass. None: only used ones get one.
            core: mix all of ``support``, too, instead: the gradient of the mixed core.
        """
        kept = self.chosen(router)
        if support is not None and core:
            kept = kept | support
        values = router * kept
        if support is not None and not core:
            values = values + (router - router.detach()) * (support & ~kept)
        if not self.renormalized:
            return values * self.scale
        tiny = torch.finfo(values.dtype).tiny
        return values * (self.scale / values.sum(-1, keepdim=True).clamp_min(tiny))

    def map(self, change: Callable[[Tensor], Tensor]) -> Gate:
        """The same with other tensors: some rows of them, on another device."""
        return replace(self, bias=change(self.bias), scale=change(self.scale))

    def __getitem__(self, index: Any) -> Gate:
        """Of some of the leading places."""
        return self.map(lambda tensor: tensor[index])

    @classmethod
    def stacked(cls, gates: list[Gate], dim: int = 0) -> Gate:
        """Of gates that differ in their tensors alone."""
        bias, scale = (torch.stack([getattr(gate, name) for gate in gates], dim) for name in ("bias", "scale"))
        return replace(gates[0], bias=bias, scale=scale)
