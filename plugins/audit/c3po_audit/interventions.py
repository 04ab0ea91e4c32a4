"""What is done to routing to see what it is worth: a rule each, which goes with every family whose routing is read.

All but ``next-best`` keep each token's mass, the sum of its weights in a layer, exactly; that one weighs other experts
as the layer weighs its own, so that the mass is kept where the layer renormalizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from c3po_adaptive import Change, LayerRouting, ModelError, RoutedModel, RoutingRule, State, mass

PERMUTED, UNIFORM, EVERYONE, ALONE, NEXT = "permuted", "uniform top-k", "uniform all", "top-1", "next-best"
MEANINGS: Mapping[str, str] = {
    PERMUTED: "each layer's experts exchanged at random, so that none stays in its place",
    NEXT: "experts of rank k + 1 … 2k in place of the best k",
    UNIFORM: "the router's own experts, all weighed alike",
    ALONE: "the best expert alone, with the weight of all",
    EVERYONE: "all experts, weighed alike",
}
"""Every intervention in words, the one that the audit's sentence speaks of first."""
BANNED = "banned"
"""One expert is never chosen: the best of those not chosen takes its place, at its weight."""


def interventions(model: RoutedModel, seed: int) -> dict[str, RoutingRule]:
    """Each intervention's rule, by its name."""
    return {
        PERMUTED: _Permuted(cycles(len(model.sites), model.sites[0].mixable, model.n_experts, seed)),
        NEXT: _next_best,
        UNIFORM: _uniform,
        ALONE: _best_alone,
        EVERYONE: _everyone,
    }


def cycles(layers: int, mixable: int, experts: int, seed: int) -> Tensor:
    """``[L, E]`` which expert takes the place of each: in every layer a random cycle through the first ``mixable``."""
    generator, order = Generator().manual_seed(seed), torch.arange(experts).repeat(layers, 1)
    for layer in order:
        drawn = torch.randperm(mixable, generator=generator)
        layer[drawn] = drawn.roll(1)
    return order


def mixed_by(name: str, model: RoutedModel) -> dict[int, int]:
    """How many experts an intervention mixes for a token of each MoE layer (0 … L-1)."""
    numbers = {EVERYONE: [site.mixable for site in model.sites], ALONE: [1] * len(model.sites)}
    return dict(enumerate(numbers.get(name, [site.top_k for site in model.sites])))


def lacking(model: RoutedModel, rules: Mapping[str, RoutingRule], state: State) -> dict[str, str]:
    """Why the model cannot have some of the interventions, by their names; ``BANNED`` may be among them.

    Args:
        model: the frozen model.
        rules: of ``interventions``.
        state: any prefilled question, to try on it.
    """
    most, fewest = (bound(site.top_k for site in model.sites) for bound in (max, min))
    mixable, found = min(site.mixable for site in model.sites), {}
    if mixable < 2:
        found[PERMUTED] = "there is one expert in a layer"
    if most == 1:
        found[UNIFORM] = "a token uses one expert, whose weight is uniform already"
        found[ALONE] = "a token uses one expert"
    if fewest >= mixable:
        found[EVERYONE] = "a token uses all experts, so this is uniform top-k"
        found[BANNED] = "a token uses all experts, so none is left to take another's place"
    if 2 * most > mixable:
        found[NEXT] = f"{most} of {mixable} experts are used, which leaves no other {most}"
    else:
        try:
            model.ruled_from([state], rules[NEXT])
        except ModelError as error:
            found[NEXT] = str(error)
    return found


@dataclass(frozen=True)
class At:
    """Another rule in one MoE layer (0 … L-1) alone."""

    position: int
    rule: RoutingRule

    def __call__(self, routing: LayerRouting) -> Change | None:
        return self.rule(routing) if routing.position == self.position else None


@dataclass(frozen=True)
class Banned:
    """One expert is never chosen: see ``BANNED``."""

    expert: int

    def __call__(self, routing: LayerRouting) -> Change:
        index = torch.where(routing.index == self.expert, _first_not_chosen(routing, 1), routing.index)
        return Change(None, index, routing.weights)


@dataclass(frozen=True, eq=False)
class Dimmed:
    """Every expert at ``scale [B, L, E]`` times its weight, the rest of it to the best of those not chosen.

    At one this is the model itself, and at zero for one expert it is ``Banned``: minus the slope at one is what a ban
    changes to first order.
    """

    scale: Tensor

    def __call__(self, routing: LayerRouting) -> Change:
        weights = routing.weights.float()
        own = self.scale[routing.sample, routing.position].to(weights.device).gather(1, routing.index)
        rest = mass(weights * (1 - own))
        index = torch.cat([routing.index, _first_not_chosen(routing, 1)], 1)
        return Change(None, index, torch.cat([weights * own, rest], 1))


@dataclass(frozen=True, eq=False)
class _Permuted:
    order: Tensor

    def __call__(self, routing: LayerRouting) -> Change:
        order = self.order[routing.position].to(routing.index.device)
        return Change(None, order[routing.index], routing.weights)


def _uniform(routing: LayerRouting) -> Change:
    return Change(None, routing.index, mass(routing.weights).expand_as(routing.weights) / routing.weights.shape[1])


def _everyone(routing: LayerRouting) -> Change:
    n = routing.site.mixable
    index = torch.arange(n, device=routing.index.device).expand(len(routing.index), n)
    return Change(None, index, mass(routing.weights).expand(-1, n) / n)


def _best_alone(routing: LayerRouting) -> Change:
    """Beside the first expert at weight zero: longcat_flash's experts cannot take one column (transformers 5.24)."""
    best = routing.index.gather(1, routing.weights.argmax(1, keepdim=True))
    total = mass(routing.weights)
    index, weights = torch.cat([best, 0 * best], 1), torch.cat([total, 0 * total], 1)
    return Change(None, index, weights, used=torch.ones_like(best[:, 0]))


def _next_best(routing: LayerRouting) -> Change:
    index = _first_not_chosen(routing, routing.index.shape[1])
    return Change(None, index, routing.weighed(index))


def _first_not_chosen(routing: LayerRouting, n: int) -> Tensor:
    """``[R, n]`` the experts of the highest scores among those that the router did not choose, best first.

    Where a bias or groups have a say in the choice, they have none here.
    """
    return routing.logits.scatter(1, routing.index, -torch.inf).topk(n).indices
