"""Statistics of routing over a set of texts: load, hot experts, entropy, co-use; by layer, kind and position."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from c3po_adaptive import SettingError
from c3po_adaptive.study import digest

from .expert_load import HOT, ExpertLoad, LoadSums
from .load_difference import LoadDifference, Paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Counts = NDArray[Any]

PAIRS = 5
"""Pairs of experts, where they are listed."""
PARTS = 256
"""Of a set's texts, at most, that two readings of them are held against each other by."""
TITLE = 24
"""Characters of a set's name over a picture."""


class Pair(NamedTuple):
    """Two experts of a layer that tokens use together.

    Attributes:
        layer: decoder layer.
        experts: the two.
        tokens: how many use both.
        share: of all tokens.
        lift: that share over what it would be if the two were used independently of each other.
    """

    layer: int
    experts: tuple[int, int]
    tokens: int
    share: float
    lift: float


@dataclass(frozen=True, eq=False)
class RoutingStatistics:
    """What the texts of a set ask of a model's experts.

    Attributes:
        name: of the set.
        model: its name; "" where nobody knows.
        layers: decoder layer of each of the L rows.
        top_k: experts that a token uses in a layer, at most.
        whole: all tokens.
        kinds: those of each kind of question.
        positions: those at each position: ``prompt`` (before its last token), ``last`` (its last token), ``answer``
            (what follows, of questions the tokens of every option), ``text`` (where nobody knows which is which).
        kinds_apart: how far each kind is from all others.
        together: ``[L, E, E]`` tokens that use both of two experts, symmetric, zero on the diagonal.
        parts: ``[P, L, E]`` tokens that use each expert, by text; of more than 256 texts every 256th is in one part.
        identity: of the texts in their order, whatever model reads them.
    """

    name: str
    model: str
    layers: tuple[int, ...]
    top_k: int
    whole: ExpertLoad
    kinds: Mapping[str, ExpertLoad]
    positions: Mapping[str, ExpertLoad]
    kinds_apart: Mapping[str, LoadDifference]
    together: Counts
    parts: Counts
    identity: str

    def __repr__(self) -> str:
        """In a line, without the counts."""
        L, E = self.whole.counts.shape
        of = f"{self.model or 'an unknown model'}, {L} layers × {E} experts, {self.top_k} a token"
        return f"{self.name}: {self.whole.size}; {of}"

    def pairs(self, count: int = PAIRS) -> list[Pair]:
        """The pairs that are used together most beside what chance would give, over all layers; none where a token uses
        one expert. They are ordered by what is left of their lift two standard errors (√tokens) below, so that a few
        tokens of rare experts do not come first."""
        import numpy as np

        upper, used = np.triu(self.together, 1), self.whole.counts
        by_chance = used[:, :, None] * used[:, None, :] / max(self.whole.tokens, 1)
        sure = np.full(upper.shape, -np.inf)
        np.divide(upper - 2 * np.sqrt(upper), by_chance, out=sure, where=upper > 0)
        found = []
        for place in (-sure).ravel().argsort(kind="stable")[:count].tolist():
            row, a, b = (int(i) for i in np.unravel_index(place, upper.shape))
            if both := int(upper[row, a, b]):
                lift = both / float(by_chance[row, a, b])
                found.append(Pair(self.layers[row], (a, b), both, both / self.whole.tokens, lift))
        return found

    def against(self, other: RoutingStatistics) -> LoadDifference:
        """This set's load beside another's; of the same texts, which two models have read, text by text.

        Raises:
            SettingError: a set of other layers or experts, or no statistics.
        """
        if not isinstance(other, RoutingStatistics):
            raise SettingError(
                f"Expected the statistics of another set, got {type(other).__name__}; give routing_statistics(…) of it."
            )
        mine, others = (self.layers, self.whole.counts.shape), (other.layers, other.whole.counts.shape)
        if mine != others:
            raise SettingError(
                f"Expected two sets of one kind of model, got {len(self.layers)} layers × {mine[1][1]} experts "
                f"({self.name}) and {len(other.layers)} × {others[1][1]} ({other.name}); take models of one family "
                "and size."
            )
        paired = Paired.of(self.parts, other.parts) if self.identity == other.identity else None
        return LoadDifference(self.layers, self.whole, other.whole, paired)

    def plot(self, other: RoutingStatistics | None = None) -> Figure:
        """A figure of layers × experts: the load, and with another set its load and the difference.

        Raises:
            SettingError: a set of other layers or experts.
        """
        from c3po_adaptive.pictures import Panel, layers_by_experts

        label = "share of the layer's load"
        panels = [Panel(_titled(one), 100 * one.whole.load, label, unit=" %") for one in (self, other) if one]
        if other is not None:
            change = 100 * self.against(other).change
            panels.append(Panel("second − first", change, "change of the load, points", signed=True))
        return layers_by_experts(panels, self.layers, title=f"{self.model or 'unknown model'}: load of each expert")

    def values(self) -> dict[str, object]:
        """The statistics in plain values, for programs; shares from 0 to 1."""
        load, errors = self.whole.load, self.whole.errors
        return {
            "set": self.name,
            "model": self.model,
            "experts": load.shape[1],
            "top_k": self.top_k,
            "hot_share": HOT,
            **_counted(self.whole),
            "layers": [
                {
                    "layer": layer,
                    "hot": list(self.whole.hot[row]),
                    "evenness": self.whole.evenness[row],
                    "load": load[row].tolist(),
                    "errors": errors[row].tolist() if self.whole.texts > 1 else None,
                }
                for row, layer in enumerate(self.layers)
            ],
            "pairs": [pair._asdict() for pair in self.pairs()],
            "kinds": {
                kind: {**_counted(own), **_by_layer(own), **apart_values(self.kinds_apart[kind])}
                for kind, own in self.kinds.items()
            },
            "positions": {place: {**_counted(own), **_by_layer(own)} for place, own in self.positions.items()},
        }


def apart_values(difference: LoadDifference) -> dict[str, object]:
    """Total variation by layer, in plain values; without what chance gives where that is not known."""
    chance = difference.by_chance
    return {
        "apart": difference.apart.tolist(),
        "apart_by_chance": None if (chance != chance).any() else chance.tolist(),  # NaN is no JSON
    }


def _counted(load: ExpertLoad) -> dict[str, object]:
    return {"texts": load.texts, "tokens": load.tokens}


def _by_layer(load: ExpertLoad) -> dict[str, object]:
    return {"hot": [list(hot) for hot in load.hot], "evenness": list(load.evenness)}


def _titled(one: RoutingStatistics) -> str:
    name = one.name if len(one.name) <= TITLE else f"…{one.name[1 - TITLE :]}"
    return f"{name}: {one.whole.size}"


@dataclass(eq=False)
class RoutingSums:
    """What is kept while a set streams by; its size does not grow with the set, but for the kinds that it has, and up
    to 256 texts."""

    layers: int
    experts: int
    kinds: dict[str, LoadSums] = field(default_factory=dict)
    positions: dict[str, LoadSums] = field(default_factory=dict)
    whole: LoadSums = field(init=False)
    together: Counts = field(init=False)
    parts: list[Counts] = field(default_factory=list)
    read: int = 0
    identity: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        import numpy as np

        self.whole = LoadSums(self.layers, self.experts)
        self.together = np.zeros((self.layers, self.experts, self.experts), np.int64)

    def add(self, counts: Mapping[str, Counts], tokens: Mapping[str, int], kind: str, text: object) -> None:
        """One text: by position tokens that use each expert ``[L, E]``, and how many there are; its kind; and what
        identifies it, as JSON has it."""
        every: Any = sum(counts.values())
        self.identity.update(digest(text).encode())
        if self.read < PARTS:
            self.parts.append(every)
        else:
            self.parts[self.read % PARTS] = self.parts[self.read % PARTS] + every
        self.read += 1
        for sums, own, count in (
            (self.whole, every, sum(tokens.values())),
            (self.kinds.setdefault(kind, self._empty()), every, sum(tokens.values())),
            *((self.positions.setdefault(p, self._empty()), counts[p], tokens[p]) for p in counts),
        ):
            sums.add(own, count)

    def _empty(self) -> LoadSums:
        return LoadSums(self.layers, self.experts)

    def statistics(self, name: str, model: str, layers: tuple[int, ...], top_k: int) -> RoutingStatistics:
        """Of all that came by; one kind alone is no kind."""
        import numpy as np

        kinds = dict(sorted(self.kinds.items())) if len(self.kinds) > 1 else {}
        together = self.together * ~np.eye(self.experts, dtype=bool)
        return RoutingStatistics(
            name,
            model,
            layers,
            top_k,
            self.whole.load,
            {kind: sums.load for kind, sums in kinds.items()},
            {place: sums.load for place, sums in self.positions.items() if sums.tokens},
            {k: LoadDifference(layers, self.whole.without(sums).load, sums.load) for k, sums in kinds.items()},
            together,
            np.stack(self.parts),
            self.identity.hexdigest(),
        )
