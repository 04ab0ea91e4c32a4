"""Which tails run side by side: few groups waste padding and layers, many groups waste small matrix products."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .packing import Packed

OVERHEAD = 48  # tokens that take as long as one more group does, in each layer (measured on two cores)


@dataclass(frozen=True)
class Tail:
    """One tail to be placed.

    Attributes:
        number: which.
        kind: only tails of one kind can run together.
        width: tokens of a sequence.
        sequences: how many.
        layers: that it runs through, where they differ; a group runs through as many as its longest.
    """

    number: int
    kind: Hashable
    width: int
    sequences: int = 1
    layers: int = 1


def waiting(number: int, packed: Packed, way: Hashable = None, layers: int = 1) -> Tail:
    """A packed tail; those of one kind have the same layout, something in their cache or nothing, and the same way."""
    kind = (packed.visible is None, packed.past == 0, way)
    return Tail(number, kind, packed.tokens.shape[1], len(packed.tokens), layers)


def grouped(tails: Sequence[Tail]) -> list[list[int]]:
    """Numbers of the tails of each group.

    The cheapest cut of the tails in order of width, or of layers, whichever is cheaper (dynamic programming).
    """
    groups: list[list[int]] = []
    for kind in dict.fromkeys(tail.kind for tail in tails):
        alike = [tail for tail in tails if tail.kind == kind]
        by_width = _cut(sorted(alike, key=lambda t: (t.width, t.layers)))
        by_layers = _cut(sorted(alike, key=lambda t: (t.layers, t.width)))
        groups += min(by_width, by_layers, key=lambda found: found[0])[1]
    return groups


def _cut(tails: Sequence[Tail]) -> tuple[float, list[list[int]]]:
    """The cheapest way to cut a row of tails into groups, and its cost in tokens times layers."""
    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first n tails: the cost, and where the last group begins
    for end in range(1, len(tails) + 1):
        found = (float("inf"), 0)
        width = layers = sequences = 0
        for begin in range(end - 1, -1, -1):
            tail = tails[begin]
            width, layers, sequences = max(width, tail.width), max(layers, tail.layers), sequences + tail.sequences
            found = min(found, (best[begin][0] + layers * (OVERHEAD + width * sequences), begin))
        best.append(found)
    groups, end = [], len(tails)
    while end:
        begin = best[end][1]
        groups.append([tail.number for tail in tails[begin:end]])
        end = begin
    return best[-1][0], groups[::-1]
