"""Routing traces: which experts every token of a sequence used, to be recorded, replayed and held against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..elsewhere import drawn
from ..errors import SettingError, ShapeError
from .router_rules import LayerRouting, RoutingRule
from .styles import NONE as NONE
from .styles import Change

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAVIEST = 2**15  # weight of an expert: far above what routers give, and still a number in float16
LIMIT = 2**15  # of experts in a layer and of decoder layers: what a trace's file has room for
SHOWN = 16  # numbers of a message
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # which int64 holds without changing them


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
        pieces: text of token ids, of those that are known.
        prompt: how many of the tokens are the prompt's, the others generated; 0 where nobody knows.
        engine: what ran the model; "" where nobody knows.
        dtype: of the weights, such as "bfloat16", and what quantized some; "" where nobody knows.

    Raises:
        ShapeError: parts that do not fit together, or are no whole numbers where those are expected; tokens, layers or
            experts that there cannot be, or an expert twice in a place; weights that are NaN, negative or above
            ``HEAVIEST``; or experts that are all zero: what an engine gives that recorded nothing.
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
    pieces: Mapping[int, str] = field(default_factory=dict)
    prompt: int = 0
    engine: str = ""
    dtype: str = ""

    def __repr__(self) -> str:
        """In a line, without the tensors."""
        T, L, k = self.experts.shape
        known = "experts and weights" if self.weights is not None else "experts alone"
        recorded = f"{int(self.recorded.any(1).sum())} of {T} tokens recorded"
        return f"Trace({self.name!r}: {recorded}, {L} layers, {k} of {self.n_experts} experts a token, {known})"

    def __post_init__(self) -> None:
        shape, wanted = tuple(self.experts.shape), (len(self.tokens), len(self.layers))
        if len(shape) != 3 or shape[:2] != wanted or shape[2] < 1:
            raise ShapeError(f"Expected experts of shape (T, L, k) with (T, L) = {wanted} and k >= 1, got {shape}.")
        rising = bool(self.layers) and list(self.layers) == sorted({*self.layers})
        if not rising or self.layers[0] < 0 or self.layers[-1] >= LIMIT:
            raise ShapeError(f"Expected decoder layers, rising, from 0 to {LIMIT - 1}, got {_short(self.layers)}.")
        if not 0 < self.n_experts < LIMIT:
            raise ShapeError(f"Expected n_experts from 1 to {LIMIT - 1}, got {self.n_experts}.")
        if (self.tokens.dtype, self.experts.dtype) != (torch.int64, torch.int64):
            raise ShapeError(
                f"Expected tokens and experts of int64, got {self.tokens.dtype} and {self.experts.dtype}; give whole "
                "numbers as .long() makes them."
            )
        if self.tokens.ndim != 1 or ((self.tokens < 0) | (self.tokens >= 2**31)).any():
            raise ShapeError("Expected token ids [T] from 0 to 2^31 - 1, got others; take those of a tokenizer.")
        if len(self.tokens) and ((self.experts < NONE) | (self.experts >= self.n_experts)).any():
            low, high = int(self.experts.min()), int(self.experts.max())
            raise ShapeError(f"Expected experts from 0 to {self.n_experts - 1}, or {NONE}, got {low} to {high}.")
        self._check_weights()
        if self.prompt < 0:
            raise ShapeError(f"Expected a prompt of 0 tokens or more, got {self.prompt}.")
        if self._is_of_zeros():
            raise ShapeError(
                "Expected experts, got zeros alone: an engine that records nothing gives those; turn its recording on."
            )
        if (twice := repeated(self.experts)).any():
            token, row = twice.nonzero()[0].tolist()
            raise ShapeError(
                f"Expected different experts in each place, got {_short(self.experts[token, row].tolist())} at token "
                f"{token} of layer {self.layers[row]}; record again."
            )

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if self.weights.shape != self.experts.shape or not self.weights.is_floating_point():
            raise ShapeError(
                f"Expected weights of float32 in the experts' shape {tuple(self.experts.shape)}, got "
                f"{self.weights.dtype} in {tuple(self.weights.shape)}."
            )
        if not ((self.weights >= 0) & (self.weights <= HEAVIEST)).all():  # NaN is neither
            raise ShapeError(
                f"Expected finite weights from 0 to {HEAVIEST}, got NaN, infinite, negative or larger ones; record "
                "again."
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

    def plot(
        self, other: Trace | None = None, *, names: tuple[str, str] = ("before", "after"), first: int = 0
    ) -> Figure:
        """A figure of tokens × layers: which expert each token uses most, and its share of the token's weight.

        Args:
            other: another routing of the same tokens; it stands beside, and how far it moves each place.
            names: what the two are called.
            first: the token that it begins with; up to 64 are shown.

        Raises:
            SettingError: traces of other tokens, layers or numbers of experts; or no such token.
            PluginError: plugins/traces, which draws it, is not installed.
        """
        if other is not None:
            recorded_in_both(self, other)  # refuses what cannot be held against each other
        figure: Figure = drawn("trace")(self, other, names, first)
        return figure


class Recorder:
    """A rule that leaves all as it is, or as another rule has it, and writes down what each layer does.

    Attributes:
        experts: ``[T, L, k]``, ``NONE`` where no layer has come by yet.
        weights: ``[T, L, k]``, zero there.
    """

    def __init__(self, length: int, layers: int, top_k: int, rule: RoutingRule | None = None) -> None:
        self.experts = torch.full((length, layers, top_k), NONE)
        self.weights = torch.zeros(length, layers, top_k)
        self.rule = rule

    def __call__(self, routing: LayerRouting) -> Change | None:
        self._write(routing, routing.index, routing.weights, routing.real)
        change = None if self.rule is None else self.rule(routing)
        if change is not None:
            rows = torch.arange(len(routing.real)) if change.rows is None else change.rows.cpu()
            self._write(routing, change.experts.cpu(), change.weights, routing.real[rows], rows)
        return change

    def _write(
        self, routing: LayerRouting, index: Tensor, weights: Tensor, real: Tensor, rows: Tensor | None = None
    ) -> None:
        if (wider := index.shape[1] - self.experts.shape[-1]) > 0:
            self.experts, self.weights = pad(self.experts, (0, wider), value=NONE), pad(self.weights, (0, wider))
        fill = (0, self.experts.shape[-1] - index.shape[1])
        token = (routing.token if rows is None else routing.token[rows])[real]
        index, weights = index[real.to(index.device)].cpu(), weights[real.to(weights.device)].detach().float().cpu()
        self.experts[token, routing.position] = pad(index, fill, value=NONE)
        self.weights[token, routing.position] = pad(weights, fill)

    def whole(self, length: int, n_experts: int) -> tuple[Tensor, Tensor]:
        """Experts and weights ``[T, L, k]`` of the first tokens, with k of the place that used most.

        Places that used fewer are filled up with other experts, at weight zero.
        """
        experts, weights = self.experts[:length], self.weights[:length]
        used = experts != NONE
        width = max(1, int(used.sum(-1).max())) if used.numel() else 1
        experts, weights, used = experts[..., :width], weights[..., :width], used[..., :width]
        short = used.any(-1) & ~used.all(-1)
        if short.any():
            # [P, E]: experts of these places come last, the others by number.
            order = torch.arange(n_experts) + n_experts * _dense(experts[short], n_experts)
            others = order.argsort(-1)[:, :width]
            place = (~used[short]).long().cumsum(-1).sub(1).clamp_min(0)
            experts = experts.clone()
            experts[short] = torch.where(used[short], experts[short], others.gather(1, place))
        return experts, weights


def _dense(experts: Tensor, n_experts: int) -> Tensor:
    """``[P, E]`` one for each of the experts ``[P, k]`` that are there, else zero."""
    marks = torch.zeros(len(experts), n_experts + 1, dtype=torch.long)
    return marks.scatter(1, experts.where(experts >= 0, n_experts), 1)[:, :n_experts]


@dataclass(frozen=True, eq=False)
class Replayed:
    """A rule that forces a trace; what was not recorded is left to the model.

    With ids alone the router weighs the prescribed experts, as it weighs its own choice.
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


def recorded_in_both(one: Trace, other: Trace) -> Tensor:
    """``[T, L]`` bool where two traces of the same tokens can be held against each other.

    Raises:
        SettingError: traces of other tokens, layers or numbers of experts, or that have no such place.
    """
    if not torch.equal(one.tokens, other.tokens) or len({one.tokenizer, other.tokenizer} - {""}) > 1:
        raise SettingError("Expected two traces of the same tokens, got others; record one text with both.")
    if (one.layers, one.n_experts) != (other.layers, other.n_experts):
        raise SettingError("Expected two traces of the same layers and experts, got others; take models of one kind.")
    both = one.recorded & other.recorded
    if not both.any():
        raise SettingError(
            "Expected two traces with places (a token in a layer) that were recorded in both, got none: there is "
            "nothing to compare; record both over the same tokens."
        )
    return both


def parted(one: Trace, other: Trace) -> Tensor:
    """``[T, L]`` bool where two traces used other experts, in any order, among places that are ``recorded_in_both``.

    Raises:
        SettingError: as that does.
    """
    recorded = recorded_in_both(one, other)
    if one.experts.shape != other.experts.shape:  # each place has different experts, so it has others
        return recorded
    return (one.experts.sort(-1).values != other.experts.sort(-1).values).any(-1) & recorded


def behind(recorded: Tensor) -> slice:
    """The tokens, of ``[T - 1]`` after the first, whose likelihood depends on a recorded place ``[T, L]``.

    Raises:
        SettingError: none does.
    """
    found = recorded[:-1].any(1)
    if not found.any():
        raise SettingError(
            "Expected a trace of places (a token in a layer) before its last token, got none: there is nothing to "
            "replay; record again."
        )
    return slice(int(found.long().argmax()), None)


def repeated(experts: Tensor) -> Tensor:
    """``[T, L]`` bool where experts ``[T, L, k]`` name one twice, which no router does."""
    ordered = experts.sort(-1).values
    return ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != NONE)).any(-1)


def _short(numbers: Sequence[int]) -> str:
    """For messages, however many there are."""
    return f"{', '.join(map(str, numbers[:SHOWN]))}{', …' if len(numbers) > SHOWN else ''}" if numbers else "none"
