"""The embedded model with a known fault: to see what is found where something is wrong."""

from __future__ import annotations

from c3po_adaptive import RoutedModel

from .faults import Fault
from .planting import planted

NAME = "smollm2-moe-misrouted"

FAULT = Fault("exchange", layers=tuple(range(16, 24)), pairs=tuple((expert, expert + 8) for expert in range(8)))
"""In the first eight of its twelve MoE layers every expert is taken for another."""


def misrouted(model: RoutedModel) -> RoutedModel:
    """The embedded model with that fault, in memory: it shares every other number with it."""
    faulty = planted(model, FAULT)
    faulty.name = NAME
    return faulty
