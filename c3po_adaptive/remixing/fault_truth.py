"""What a planted fault did to samples: the truth that methods are held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..models.planting import known_fault, sound_pathways
from ..models.routed import RoutedModel
from ..problem import FaultTruth
from ..routing.mixing import mass
from ..routing.states import State

SAME = 1e-5
"""Shares of a layer's mass that differ by less are the same: sums in another order round otherwise."""


def truth_of(model: RoutedModel, states: Sequence[State]) -> FaultTruth:
    """What the fault did to prefilled prompts.

    Raises:
        SettingError: the model has no known fault.
    """
    fault, own = known_fault(model).fault, torch.stack([state.own for state in states])
    broken = torch.tensor([layer in fault.broken for layer in model.layers])
    found = sound_pathways(model, states) if fault.broken else own
    moved = ((found / mass(found) - own / mass(own)).abs() > SAME).any(-1, keepdim=True)
    return FaultTruth(broken, torch.where(moved & broken[:, None], found, own))
