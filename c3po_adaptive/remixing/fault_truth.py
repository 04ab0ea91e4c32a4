"""What a planted fault did to samples: the truth that methods are held against."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.planting import known_fault
from ..models.routed import RoutedModel
from ..problem import FaultTruth
from ..routing.mixing import mass
from ..routing.routers import chosen_of

SAME = 1e-5
"""Shares of a layer's mass that differ by less are the same: sums in another order round otherwise."""


def truth_of(model: RoutedModel, own: Tensor, read: Tensor) -> FaultTruth:
    """What the fault did to samples.

    Args:
        model: with a fault.
        own: ``[B, L, E]`` its own pathways.
        read: ``[B, L, H]`` what its routers read, which with the sound routers would have been another one in later
            layers: the truth is that of each layer by itself.

    Raises:
        SettingError: no known fault.
        ModelError: a family whose layers cannot be run by themselves.
    """
    known, found = known_fault(model), own.clone()
    broken = torch.tensor([site.layer in known.fault.broken for site in model.sites])
    for i in broken.nonzero().flatten().tolist():
        routing = chosen_of(model.model, model.sites[i], read[:, i], known.sound).to(own)
        total = mass(own[:, i])
        moved = ((routing / mass(routing) - own[:, i] / total).abs() > SAME).any(-1, keepdim=True)
        found[:, i] = torch.where(moved, routing, own[:, i])
    touched = torch.zeros(own.shape[-1], dtype=torch.bool)
    touched[list(known.fault.touched) or slice(None)] = bool(broken.any())
    return FaultTruth(broken, touched, found)
