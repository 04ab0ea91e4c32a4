"""What texts lose by the ban of an expert: exact, as they are run along the rule ``ban``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from c3po_adaptive import Change, DataError, LayerRouting, NamedRule, Prompt, RoutedModel, over_values, rule_named
from c3po_adaptive.study import Progress, silent

from .choice import Place

ROUNDED = 1e-5
"""Weights in float32 that are the same are within this of each other, as a share."""


class BanCost(NamedTuple):
    """How much higher the loss of texts is without an expert.

    Attributes:
        value: nats a token: the mean over texts of the mean over a text's tokens.
        low: of 95 %, over texts, each with the ban and without.
        high: see there.
    """

    value: float
    low: float
    high: float


def ban_costs(
    model: RoutedModel, texts: Sequence[str], experts: Sequence[Place], *, seed: int = 0, progress: Progress = silent
) -> dict[Place, BanCost]:
    """Of each of these experts what its ban alone costs. A text is run again from the expert's layer on, and not at
    all where the ban leaves every token's routing as it is.

    Args:
        model: along whose own routing otherwise.
        texts: of two tokens at least.
        experts: of which layer, and which.
        seed: of what is drawn for intervals.
        progress: shows how many texts are read.

    Raises:
        DataError: a text of fewer than two tokens, or more than the model can read.
        SettingError: a layer or an expert that there is not, or too few experts would be left.
        ModelError: a family that chooses its experts in a way of its own.
    """
    rules = {(layer, expert): rule_named(f"ban:{expert}@{layer}") for layer, expert in experts}
    for rule in rules.values():
        rule.fits(model.layers, model.n_experts)
    rises = np.array([_rises(model, text, rules) for text in progress(texts, "bans")])
    found = {}
    for place, rise in zip(rules, rises.T, strict=True):
        interval = over_values(rise[:, None], seed=seed)
        found[place] = BanCost(float(rise.mean()), interval.low, interval.high)
    return found


@torch.no_grad()
def _rises(model: RoutedModel, text: str, rules: Mapping[Place, NamedRule]) -> list[float]:
    """How much higher a text's loss is, in nats a token, along each rule alone."""
    ids = model.encode_text(text).ids
    if len(ids) < 2:
        raise DataError(f"Expected texts of two tokens at least, got {text!r} of {len(ids)}; give longer ones.")
    looking = _Looking(rules)
    states = model.prefill_along([Prompt(ids[:1], (ids[1:],), (1.0,))], looking)
    own = states[0].token_scores.double().mean().item()
    along = {
        place: model.ruled_from(states, rules[place], model.layers.index(place[0]))[0].token_scores
        for place in looking.felt
    }
    return [own - along[place].double().mean().item() if place in along else 0.0 for place in rules]


@dataclass(eq=False)
class _Looking:
    """A rule that leaves all routing to the model, and notes which of some rules would not.

    Attributes:
        rules: each for one layer.
        felt: those that would change the routing of a token.
    """

    rules: Mapping[Place, NamedRule]
    felt: set[Place] = field(default_factory=set)

    def __call__(self, routing: LayerRouting) -> None:
        for place, rule in self.rules.items():
            if place[0] == routing.site.layer and _differs(routing, rule(routing)):
                self.felt.add(place)


def _differs(routing: LayerRouting, change: Change | None) -> bool:
    """Whether a token uses other experts, or one at another weight."""
    if change is None:
        return False
    none, real = torch.zeros_like(routing.logits), routing.real.to(routing.logits.device)
    own = none.scatter_add(1, routing.index, routing.weights.float())
    other = none.scatter_add(1, change.index, change.weights.float())
    share = max(ROUNDED, torch.finfo(routing.weights.dtype).eps)
    return not torch.allclose(own[real], other[real], rtol=share, atol=0)
