"""The picture of a trace, or of two of the same tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c3po_adaptive import SettingError
from c3po_adaptive.pictures import View, tokens_by_layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from c3po_adaptive.models.traced import Trace

PICTURED = 64
"""Tokens of a picture, at most."""
UNKNOWN = 0.2
"""Strength of the color where nobody knows an expert's weight."""


def pictured(one: Trace, other: Trace | None, names: tuple[str, str], first: int) -> Figure:
    """The figure of a trace; or of two of the same tokens, layers and experts, and of what the second moves. Tokens at
    the end that were not recorded, as the last one mostly is, are left out.

    Raises:
        SettingError: no such token.
    """
    there = one.recorded if other is None else one.recorded | other.recorded
    T = max(there.any(1).nonzero().flatten().tolist(), default=0) + 1
    if not 0 <= first < T:
        raise SettingError(f"Expected first to be a token that was recorded, from 0 to {T - 1}, got {first}.")
    shown = slice(first, min(first + PICTURED, T))
    pieces = [one.pieces.get(token, str(token)) for token in one.tokens[shown].tolist()]
    where = "" if T <= PICTURED else f", tokens {first} to {first + len(pieces) - 1} of {T}"
    views = [_own(one, names[0] if other else "", shown)]
    if other is not None:
        what, moved = _moved(one, other, shown)
        label = f"{what} that moved\nto other experts"
        views.append(View(names[1], _leading(other)[shown].numpy(), moved.numpy(), label, changed=True))
    title = f"{one.name or 'unknown model'}: the expert that each token uses most, layer by layer{where}"
    return tokens_by_layers(views, pieces, one.layers, title=title)


def _own(trace: Trace, title: str, shown: slice) -> View:
    leading = _leading(trace)[shown].numpy()
    if trace.weights is None:
        return View(title, leading, UNKNOWN * (leading >= 0), "")
    weights = trace.weights.detach()
    shares = weights.amax(-1) / weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)
    return View(
        title, leading, torch.where(trace.recorded, shares, 0)[shown].numpy(), "its share of\nthe token's weight"
    )


def _leading(trace: Trace) -> Tensor:
    """``[T, L]`` the expert with most weight; of ids alone the first, which engines name the best."""
    if trace.weights is None:
        return trace.experts[..., 0]
    return trace.experts.gather(-1, trace.weights.detach().argmax(-1, keepdim=True)).squeeze(-1)


def _moved(one: Trace, other: Trace, shown: slice) -> tuple[str, Tensor]:
    """Of what, and ``[t, L]`` of t tokens how much of it other experts have: half the sum of differences of shares."""
    weighed = one.weights is not None and other.weights is not None
    shares = [_shares(trace, shown, weighed=weighed) for trace in (one, other)]
    moved = (shares[0] - shares[1]).abs().sum(-1) / 2
    there = (one.recorded & other.recorded)[shown]
    return ("its weight" if weighed else "its choices"), torch.where(there, moved, 0)


def _shares(trace: Trace, shown: slice, *, weighed: bool) -> Tensor:
    """``[t, L, E]`` of each expert, summing to one where something was recorded."""
    experts = trace.experts[shown]
    weights = (experts >= 0).float()
    if weighed and trace.weights is not None:
        weights = weights * trace.weights.detach()[shown].float()
    found = torch.zeros(*experts.shape[:2], trace.n_experts).scatter_add(2, experts.clamp_min(0), weights)
    total = found.sum(-1, keepdim=True)
    return found / total.clamp_min(torch.finfo(found.dtype).tiny)
