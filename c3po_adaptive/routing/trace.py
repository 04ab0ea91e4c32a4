"""Routing traces: which experts every token of a sequence used, to be recorded, replayed and held against another."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..errors import SettingError, ShapeError
from .along import LayerRouting
from .change import Change

NONE = -1  # in the place of an expert: a token or a layer that was not recorded


@dataclass(frozen=True, eq=False)
class Trace:
    """The experts that one sequence used, token by token and layer by layer.

    Attributes:
        tokens: ``[T]`` token ids.
        layers: decoder layer index of each of the L rows.
        experts: ``[T, L, k]`` logical expert ids, ``NONE`` where nothing was recorded.
        weights: ``[T, L, k]`` what their outputs were multiplied with, float32; None where ids alone are known.
        n_experts: how many there are in a layer.
        model: identity of the model by every weight; "" where nobody knows.
        name: of the model.
        revision: commit of the Hub that the model was loaded from; "" of a folder, or where nobody knows.
        tokenizer: identity of the tokenizer that the tokens are of; "" where nobody knows.

    Raises:
        ShapeError: parts that do not fit together, experts that there are not, or all zero: what an engine gives that
            recorded nothing.
    """

    tokens: Tensor
    layers: tuple[int, ...]
    experts: Tensor
    weights: Tensor | None
    n_experts: int
    model: str = ""
    name: str = ""
    revision: str = ""
    tokenizer: str = ""

    def __post_init__(self) -> None:
        shape, wanted = tuple(self.experts.shape), (len(self.tokens), len(self.layers))
        if len(shape) != 3 or shape[:2] != wanted or shape[2] < 1:
            raise ShapeError(f"Expected experts of shape (T, L, k) with (T, L) = {wanted} and k >= 1, got {shape}.")
        if self.weights is not None and self.weights.shape != self.experts.shape:
            raise ShapeError(f"Expected weights of the experts' shape {shape}, got {tuple(self.weights.shape)}.")
        if self.weights is not None and not self.weights.isfinite().all():
            raise ShapeError("Expected finite weights, got NaN or infinity; record again.")
        if len(self.tokens) and ((self.experts < NONE) | (self.experts >= self.n_experts)).any():
            low, high = int(self.experts.min()), int(self.experts.max())
            raise ShapeError(f"Expected experts from 0 to {self.n_experts - 1}, or {NONE}, got {low} to {high}.")
        if self._is_of_zeros():
            raise ShapeError(
                "Expected experts, got zeros alone: an engine that records nothing gives those; turn its recording on."
            )

    def _is_of_zeros(self) -> bool:
        """Whether every expert is number 0, as in buffers that nobody wrote to."""
        if not self.recorded.any() or self.experts[self.recorded].any():
            return False
        if self.experts.shape[-1] > 1:
            return True
        # Of one expert a token: a weight says that a router chose it; in one token or one layer it may be by chance.
        return self.weights is None and self.n_experts > 1 and all(self.recorded.any(i).sum() > 1 for i in (0, 1))

    @cached_property
    def recorded(self) -> Tensor:
        """``[T, L]`` bool."""
        return (self.experts >= 0).all(-1)


@dataclass(eq=False)
class Recorder:
    """A rule that leaves all as it is, and writes down what each layer does.

    Attributes:
        length: T.
        layers: L.
    """

    length: int
    layers: int
    experts: Tensor | None = field(default=None, init=False)
    weights: Tensor | None = field(default=None, init=False)

    def __call__(self, routing: LayerRouting) -> Change | None:
        if self.experts is None or self.weights is None:
            size = (self.length, self.layers, routing.index.shape[1])
            self.experts, self.weights = torch.full(size, NONE), torch.zeros(size)
        token = routing.token[routing.real]
        real = routing.real.to(routing.index.device)
        self.experts[token, routing.position] = routing.index[real].cpu()
        self.weights[token, routing.position] = routing.weights[real].detach().float().cpu()
        return None


@dataclass(frozen=True, eq=False)
class Replayed:
    """A rule that forces a trace; what was not recorded is left to the model.

    With ids alone the router weighs the experts that it is given, as it weighs its own choice.
    """

    trace: Trace

    def __call__(self, routing: LayerRouting) -> Change | None:
        there = routing.real & self.trace.recorded[routing.token, routing.position]
        rows = there.nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        place, token = routing.index.device, routing.token[rows]
        experts = self.trace.experts[token, routing.position].to(place)
        if self.trace.weights is not None:
            weights = self.trace.weights[token, routing.position].to(place, routing.weights.dtype)
            return Change(rows.to(place), experts, weights)
        forced = routing.index.clone()
        forced[rows.to(place)] = experts
        return Change(rows.to(place), experts, routing.weighed(forced)[rows.to(place)])


def parted(one: Trace, other: Trace) -> Tensor:
    """``[T, L]`` bool where two traces of the same tokens used other experts, in any order; False where either recorded
    nothing.

    Raises:
        SettingError: traces of other tokens, layers or numbers of experts.
    """
    if not torch.equal(one.tokens, other.tokens) or len({one.tokenizer, other.tokenizer} - {""}) > 1:
        raise SettingError("Expected two traces of the same tokens, got others; record one text with both.")
    if (one.layers, one.n_experts) != (other.layers, other.n_experts):
        raise SettingError("Expected two traces of the same layers and experts, got others; take models of one kind.")
    used = [
        torch.zeros(*t.experts.shape[:2], t.n_experts, dtype=torch.bool).scatter_(-1, t.experts.clamp_min(0), True)
        for t in (one, other)
    ]
    return (used[0] != used[1]).any(-1) & one.recorded & other.recorded
