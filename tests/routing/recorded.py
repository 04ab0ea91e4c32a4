"""A tiny model's trace, recorded once, and others made of it."""

from dataclasses import replace
from functools import cache

import torch
from routing.naive import shared_model

from c3po_adaptive.models.traced import record
from c3po_adaptive.routing.trace import NONE

TEXT = "the boat floats on the water and the stone sinks"


@cache
def own_trace(family="olmoe"):
    """As the model routes; its last token, after which nothing is predicted, is not recorded."""
    return record(shared_model(family), TEXT)


def turned(trace, token=5, row=1):
    """The trace with other experts in one place."""
    experts = trace.experts.clone()
    experts[token, row] = torch.tensor([e for e in range(8) if e not in experts[token, row]])[: experts.shape[-1]]
    return replace(trace, experts=experts)


def recorded_at(trace, tokens):
    """The trace as if nothing else had been recorded."""
    experts = torch.full_like(trace.experts, NONE)
    experts[tokens] = trace.experts[tokens]
    return replace(trace, experts=experts)
