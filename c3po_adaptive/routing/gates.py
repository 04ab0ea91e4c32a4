"""What each MoE layer's router makes of its tokens: a distribution over all experts, and the gate behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..gate import Gate, Groups
from .families import of_router
from .mixing import dense, mass
from .modules import hook_after, hooked
from .selecting import groups_of, selection_bias
from .sites import Site, router_scores

APART = 1e-6
"""By how much what a layer chose otherwise than by its scores is put above the best of the rest, in probability."""


@dataclass(frozen=True, eq=False)
class RouterCall:
    """One call of a router.

    Attributes:
        site: whose router.
        mixable: how many of its experts can be mixed, see ``Site``.
        groups: of its experts, as it has them where nothing but the scores has a say in the choice.
        given: what it was called with, the hidden states ``[..., H]`` first.
        output: as its family gives it.
    """

    site: Site
    mixable: int
    groups: Groups | None
    given: Sequence[Any]
    output: Any

    @property
    def logits(self) -> Tensor:
        """``[R, E]`` its scores in float32, up to a number for each token; -inf for what cannot be mixed."""
        scores = router_scores(self.output, self.site)
        mixable = torch.arange(self.site.n_experts, device=scores.device) < self.mixable
        return scores.masked_fill(~mixable, -torch.inf)

    @property
    def bias(self) -> Tensor | None:
        """``[E]`` what it adds to its scores when it chooses, not when it weighs; None: nothing."""
        return selection_bias(self.site.router, self.given, self.site.n_experts)

    @property
    def inputs(self) -> Tensor:
        """``[R, H]`` the hidden states that it read."""
        read: Tensor = self.given[0]
        return read.reshape(-1, read.shape[-1])

    def gate(self, index: Tensor, weights: Tensor, rows: Tensor | slice) -> tuple[Tensor, Gate]:
        """The distribution ``[r, E]`` of some rows, and the gate that makes their weights of it.

        The distribution is the softmax of the scores, or their sigmoid over its sum (DeepSeek-V3). Where a family
        weighs its choice by something else (phimoe, inkling), that choice shares its probability as its weights say;
        where it chooses by something else (a hash of the tokens), the bias puts that choice first.

        Args:
            index: ``[r, k]`` the experts that the layer chose.
            weights: ``[r, k]`` their weights.
            rows: ``[r]`` which of the call's tokens they are.
        """
        site, logits = self.site, self.logits[rows]
        raw = logits.sigmoid() if site.scoring == "sigmoid" else logits.softmax(-1)
        total, own = mass(raw), dense(index, weights, site.n_experts)
        router, used = raw / total, dense(index, torch.ones_like(weights), site.n_experts) > 0
        if not site.proportional:
            shared = own * (mass(router * used) / mass(own).clamp_min(torch.finfo(own.dtype).tiny))
            router = torch.where(used & (mass(own) > 0), shared, router)
        bias = torch.zeros_like(router) if self.bias is None else self.bias.to(router.device) / total
        scale = mass(own)
        if not site.renormalized:
            scale = scale / mass(router * used).clamp_min(torch.finfo(own.dtype).tiny)
        groups = self.groups
        if groups is not None and (site.scoring == "sigmoid" or self.bias is not None):
            groups = replace(groups, pairs=True)
        gate = Gate(bias, scale, index.shape[1], site.renormalized, groups)
        other = (gate.chosen(router) & (router > 0)) != (used & (router > 0))
        if other.any():
            gate = Gate(_first(router, bias, used, other), scale, gate.k, gate.renormalized, groups)
        return router, gate


def _first(router: Tensor, bias: Tensor, used: Tensor, other: Tensor) -> Tensor:
    """The bias that puts the experts that are ``used`` first where the scores choose ``other`` ones."""
    scores = router + bias
    worst = scores.masked_fill(~used, torch.inf).amin(-1, keepdim=True)
    best = scores.masked_fill(used, -torch.inf).amax(-1, keepdim=True)
    lift = (best - worst).clamp_min(0) + APART
    return bias + lift * (used & other.any(-1, keepdim=True))


@dataclass(eq=False)
class Routers:
    """The routers of a model, whose outputs are kept until they are asked for."""

    sites: Sequence[Site]
    _called: dict[int, RouterCall] = field(default_factory=dict)

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Keep what the routers make of the tokens of each call inside the block."""

        def keeping(position: int, site: Site) -> Callable[..., None]:
            groups = groups_of(site.router, pairs=of_router(site.router).groups_by_two)
            known = site, site.mixable, groups  # looked up here, as hooks may be compiled

            def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                self._called[position] = RouterCall(*known, (*args, *kwargs.values()), output)

            return keep

        with hooked(hook_after(s.router, keeping(i, s), with_kwargs=True) for i, s in enumerate(self.sites)):
            yield

    def take(self, position: int) -> RouterCall:
        """The call that runs; it is kept no longer, as those of all layers would be large."""
        return self._called.pop(position)
