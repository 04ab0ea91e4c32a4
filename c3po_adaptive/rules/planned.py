"""Whether a rule leaves a token the experts that it uses, found before there is a model."""

from __future__ import annotations

from .base import NamedRule


def check_planned(rule: NamedRule, layers: tuple[int, ...], experts: int, top_k: int) -> None:
    """Ask a rule at each layer of one token, to which all experts are alike.

    Args:
        rule: it.
        layers: decoder layer index of each MoE layer.
        experts: how many there are in each.
        top_k: how many of these are used per token.

    Raises:
        SettingError: a choice that cannot be made.
    """
    import torch  # what other plans do without
    from torch import nn

    from ..routing.router_rules import LayerRouting
    from ..routing.sites import Site
    from ..routing.styles import Fused

    index, zero = torch.arange(top_k)[None], torch.zeros(1, dtype=torch.long)
    weights, logits = torch.full((1, top_k), 1 / experts), torch.zeros(1, experts)
    for position, layer in enumerate(layers):
        site = Site(layer, nn.Identity(), nn.Identity(), Fused(), experts, top_k)
        routing = LayerRouting(position, index, weights, logits, zero, zero, zero == 0, site, layers)
        rule(routing)
