"""Many requests in one batch, each along its own pathway: which rows of a step belong to which, and what they get.

The rule is c3po_adaptive's own, so that a server and transformers mean the same by a pathway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from c3po_adaptive import Change, ModelError, PathwayRule

from .forced import Forced, TraceRequest
from .request import PathwayRequest

Part = tuple[str, int, int]
"""Of a step: the request, the place of its first token there, and how many there are."""


@dataclass(eq=False)
class Guest:
    """A request that is being answered along its pathway, or its trace.

    Attributes:
        asked: which that is.
        acts: place of the prompt's last token.
        counts: for each place where it acted, in how many layers.
    """

    asked: PathwayRequest | TraceRequest
    acts: int
    counts: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Acting:
    """The requests at hand that carry a pathway or a trace."""

    guests: dict[str, Guest] = field(default_factory=dict)
    _stacked: tuple[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[list[str], PathwayRule]]] | None = None

    def begin(self, name: str, asked: PathwayRequest | TraceRequest, prompt_length: int) -> None:
        """A request comes in; one that comes in again (after preemption) keeps its counts."""
        known = self.guests.get(name)
        own = asked.prompt_tokens if isinstance(asked, PathwayRequest) else None
        guest = Guest(asked, (own or prompt_length) - 1)
        guest.counts.update({} if known is None else known.counts)
        self.guests[name] = guest
        self._stacked = None

    def end(self, name: str) -> None:
        """It is answered, or given up."""
        if self.guests.pop(name, None) is not None:
            self._stacked = None

    def counted(self, name: str, length: int) -> dict[str, int]:
        """Where a request's pathway acted, among its first ``length`` tokens."""
        guest = self.guests[name]
        found = [layers for place, layers in guest.counts.items() if place < length]
        return {"tokens": len(found), "layers": len(guest.asked.layers), "acted": sum(found)}

    def step(self, parts: Sequence[Part]) -> Step | None:
        """What the pathways do in one step; None: nothing in it acts."""
        rows = _rows(parts, self.guests)
        if not rows:
            return None
        asked = {row.name: self.guests[row.name].asked for row in rows}
        paths = {name: one for name, one in asked.items() if isinstance(one, PathwayRequest)}
        traces = {name: one for name, one in asked.items() if isinstance(one, TraceRequest)}
        layers = tuple(sorted({layer for one in asked.values() for layer in one.layers}))
        length = sum(count for _, _, count in parts)
        rules: list[PathwayRule | Forced] = []
        for members, rule in self._stack(paths, layers):
            replaced, shifted = (torch.full((length,), -1) for _ in range(2))
            for row in rows:
                if row.name in members:
                    (replaced if row.replaced else shifted)[row.at] = members.index(row.name)
            rules.append(PathwayRule(rule.weights, rule.own, replaced, shifted, rule.active, top_k=rule.top_k))
        for name, traced in traces.items():
            rules.append(Forced.of(traced, [(row.at, row.place) for row in rows if row.name == name], layers))
        return Step(layers, rules, rows, self.guests, torch.zeros(length, dtype=torch.long))

    def _stack(self, asked: dict[str, PathwayRequest], layers: tuple[int, ...]) -> list[tuple[list[str], PathwayRule]]:
        """Pathways side by side; the same as in the step before while the same requests are at hand."""
        key = tuple(asked), layers
        if self._stacked is None or self._stacked[0] != key:
            groups: dict[int | None, list[str]] = {}
            for name, one in asked.items():
                groups.setdefault(one.top_k, []).append(name)
            stacks = [(members, _side_by_side([asked[m] for m in members], layers)) for members in groups.values()]
            self._stacked = key, stacks
        return self._stacked[1]


@dataclass(frozen=True)
class Row:
    """A row of a step where a pathway acts: of which request, its place there, and whether ω replaces its routing."""

    at: int
    name: str
    place: int
    replaced: bool


def _rows(parts: Sequence[Part], guests: dict[str, Guest]) -> list[Row]:
    found, begin = [], 0
    for name, first, count in parts:
        if name in guests:
            asked, acts = guests[name].asked, guests[name].acts
            for place, replaced in asked.places(acts, first, first + count):
                found.append(Row(begin + place - first, name, place, replaced))
        begin += count
    return found


def _side_by_side(asked: Sequence[PathwayRequest], layers: tuple[int, ...]) -> PathwayRule:
    """A rule without rows for pathways of one top_k."""
    shape = (len(asked), len(layers), asked[0].weights.shape[1])
    weights, own = torch.zeros(shape), torch.zeros(shape)
    active = torch.zeros(shape[:2], dtype=torch.bool)
    for sample, one in enumerate(asked):
        places = [layers.index(layer) for layer in one.layers]
        weights[sample, places], own[sample, places] = one.weights, one.own
        active[sample, places] = True
    nobody = torch.empty(0, dtype=torch.long)
    return PathwayRule(weights, own, nobody, nobody, active, top_k=asked[0].top_k)


@dataclass(eq=False)
class Step:
    """One forward pass.

    Attributes:
        layers: decoder layers that some pathway changes.
        rules: one for each top_k among the pathways, and one for each trace.
        rows: where they act.
        guests: whose they are.
        tally: ``[R]`` in how many layers each row was changed.
    """

    layers: tuple[int, ...]
    rules: list[PathwayRule | Forced]
    rows: list[Row]
    guests: dict[str, Guest]
    tally: Tensor
    asked: set[int] = field(default_factory=set)

    def route(self, layer: int, index: Tensor, weights: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Experts and weights ``[R, n]`` of one layer instead of the router's ``[R, k]``; n > k where some row mixes
        more.

        Args:
            layer: of the decoder.
            index: ``[R, k]`` logical expert numbers.
            weights: ``[R, k]`` their weights.
            scale: what the engine multiplies the experts' sum with later: pathways have it in their weights.

        Raises:
            ModelError: fewer rows than the step has tokens, so that nobody knows which are whose.
        """
        if layer not in self.layers:
            return index, weights
        if len(index) < len(self.tally):
            raise ModelError(
                f"Expected layer {layer} to route the step's {len(self.tally)} tokens, got {len(index)}: the pathways "
                "of this step were not applied. Start the server without what splits batches."
            )
        self.asked.add(layer)
        position = self.layers.index(layer)
        changes = [change for rule in self.rules if (change := rule(position, index, weights.float() * scale))]
        for change in changes:
            self.tally[slice(None) if change.rows is None else change.rows.cpu()] += 1
        return merged(index, weights, changes, scale)

    def finish(self) -> None:
        """Note what was done.

        Raises:
            ModelError: a layer that should have been changed never asked for its routing.
        """
        if silent := sorted(set(self.layers) - self.asked):
            raise ModelError(
                f"Expected layers {silent} to ask for their routing, but they did not: the pathways of this step were "
                "not applied. Start the server with --enforce-eager."
            )
        for row in self.rows:
            if row.name in self.guests:
                self.guests[row.name].counts[row.place] = int(self.tally[row.at])


def merged(index: Tensor, weights: Tensor, changes: Sequence[Change], scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """The router's choice ``[R, k]`` with some rows changed; what fills up rows is an expert at weight zero."""
    if not changes:
        return index, weights
    widths = [c.index.shape[1] if c.used is None else int(c.used.max()) for c in changes]
    width = max(index.shape[1], *widths)
    extra = width - index.shape[1]
    index = torch.cat([index, index[:, :1].expand(-1, extra)], 1)
    weights = torch.cat([weights, weights.new_zeros(len(weights), extra)], 1)
    for change in changes:
        rows = torch.arange(len(index), device=index.device) if change.rows is None else change.rows
        kept = min(width, change.index.shape[1])
        index[rows], weights[rows] = 0, 0
        index[rows, :kept] = change.index[:, :kept].to(index.dtype)
        weights[rows, :kept] = (change.weights[:, :kept] / scale).to(weights.dtype)
    return index, weights
