"""How one MoE layer chooses its experts, as rules by name edit it: scores, how many, which never, which always."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from .._printed import in_brief
from ..errors import ModelError, SettingError
from ..gate import Groups, selected
from .families import of_router
from .router_rules import EXPLAINED, LayerRouting
from .selecting import groups_of
from .sites import WORKING
from .styles import Change


@dataclass(frozen=True, eq=False)
class Choice:
    """What one MoE layer goes by when it chooses experts for R tokens.

    Attributes:
        routing: what the model itself is about to do.
        scores: ``[R, E]`` what experts are chosen and weighed by, in place of the router's scores.
        k: how many experts each token uses.
        banned: ``[E]`` bool, experts that may not be chosen; the others share what the router gave these.
        forced: ``[E]`` bool, experts that are always chosen, weighed by their own scores.
    """

    routing: LayerRouting
    scores: Tensor
    k: int
    banned: Tensor
    forced: Tensor
    __repr__ = in_brief

    @classmethod
    def own(cls, routing: LayerRouting) -> Choice:
        """The layer's own choice, to be edited by ``dataclasses.replace``."""
        none = torch.zeros(routing.logits.shape[1], dtype=torch.bool, device=routing.logits.device)
        return cls(routing, routing.logits, routing.index.shape[1], none, none)

    def among(self, experts: tuple[int, ...]) -> Tensor:
        """``[E]`` bool, those of these numbers."""
        return torch.zeros_like(self.banned).index_fill(0, torch.tensor(experts, device=self.banned.device), True)

    def change(self) -> Change:
        """The experts that are chosen so, weighed as the layer weighs its own.

        The family's selection bias and groups have their say, and whether it renormalizes; forced experts are chosen
        whatever their group, and where groups hold too few experts, others follow.

        Raises:
            SettingError: fewer experts are left than a token uses, more are forced, or one is both banned and forced.
            ModelError: this family chooses or weighs its experts in another way.
        """
        self._check()
        routing = self.routing
        plainly = routing.site.scoring != "sigmoid" and routing.selection_bias is None
        family = of_router(routing.site.router)
        groups = groups_of(routing.site.router, pairs=not plainly or family.groups_by_two)
        _check_own(routing, groups)
        scores = self.scores.masked_fill(self.banned, -torch.inf)
        by = scores if plainly and groups is None else _with_bias(routing, scores)
        index = selected(by, self.k, groups, self.banned, self.forced)
        weights = routing.weighed(index, scores)
        if self.k == 1 and family.two_columns:  # the first expert, at weight zero
            one = torch.ones(len(index), dtype=torch.long, device=index.device)
            return Change(None, pad(index, (0, 1)), pad(weights, (0, 1)), one)
        return Change(None, index, weights)

    def _check(self) -> None:
        where = f"in MoE layer {self.routing.site.layer}"
        if both := (self.banned & self.forced).nonzero().flatten().tolist():
            raise SettingError(f"Expected experts to be banned or forced {where}, got both for {both}; leave one out.")
        left = int((~self.banned)[: self.routing.site.mixable].sum())
        if left < self.k:
            raise SettingError(
                f"Expected at least {self.k} experts left {where}, which each token uses, got {left}: "
                f"{int(self.banned.sum())} of {len(self.banned)} are banned; ban fewer, or let top-k be {max(left, 1)}."
            )
        if (forced := int(self.forced.sum())) > self.k:
            raise SettingError(
                f"Expected at most {self.k} forced experts {where}, as many as each token uses, got {forced}; force "
                f"fewer, or let top-k be {forced}."
            )


def _with_bias(routing: LayerRouting, logits: Tensor) -> Tensor:
    """``[R, E]`` what the router chooses by, of its logits; -inf where it may not choose."""
    scores = routing.scored(logits)
    if routing.selection_bias is not None:
        scores = scores + routing.selection_bias.to(scores.device)
    return scores.masked_fill(routing.logits == -torch.inf, -torch.inf)


def _check_own(routing: LayerRouting, groups: Groups | None) -> None:
    """Refuse a layer whose own choice is not explained so: a hash of the tokens, a sparse mixer.

    Raises:
        ModelError: with the router's name.
    """
    real, none = routing.real.to(routing.index.device), torch.zeros_like(routing.logits[0], dtype=torch.bool)
    scores = _with_bias(routing, routing.logits.detach())
    found = selected(scores, routing.index.shape[1], groups, none, none)
    best, own = (scores.gather(1, index)[real].sort(-1).values for index in (found, routing.index))
    weighed = routing.site.proportional and routing.in_proportion()
    if not weighed or not torch.allclose(best, own, rtol=0, atol=EXPLAINED):
        raise ModelError(
            f"Expected MoE layer {routing.site.layer} to choose and weigh its best experts by softmax or sigmoid of "
            f"their router scores, but {type(routing.site.router).__name__} does otherwise: a rule over router scores "
            f"cannot be had for this family; take OLMoE, DeepSeek, Qwen or Mixtral. {WORKING}"
        )
