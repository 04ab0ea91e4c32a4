"""Which experts of which layers an arm re-mixed, counted over its questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records.answer import AnswerRecord

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExpertUse:
    """Counts over an arm's records.

    Attributes:
        n: how many records there are.
        layers: decoder layers, a row each.
        changed: ``[L, E]`` records in which the expert's routing weight changed.
        raised: ``[L, E]`` those in which it rose.
        lowered: ``[L, E]`` those in which it fell.
    """

    n: int
    layers: tuple[int, ...]
    changed: Counts
    raised: Counts
    lowered: Counts


def expert_use(records: Sequence[AnswerRecord]) -> dict[str, ExpertUse]:
    """Of each arm that re-mixed something, on layers and experts that are the same for all."""
    arms: dict[str, list[AnswerRecord]] = {}
    for record in records:
        arms.setdefault(record.arm, []).append(record)
    layers = sorted({layer for r in records for layer in (*r.experts, *r.layer_scores)})
    experts = 1 + max((e for r in records for ids in r.experts.values() for e in ids), default=-1)
    rows = {layer: i for i, layer in enumerate(layers)}
    return {
        arm: ExpertUse(len(own), tuple(layers), *_counted(own, rows, experts))
        for arm, own in arms.items()
        if any(ids for r in own for ids in r.experts.values())
    }


def _counted(records: Sequence[AnswerRecord], rows: dict[int, int], experts: int) -> tuple[Counts, Counts, Counts]:
    changed, raised, lowered = (np.zeros((len(rows), experts), np.int64) for _ in range(3))
    for record in records:
        for layer, ids in record.experts.items():
            rose = {*record.raised.get(layer, ())}
            changed[rows[layer], list(ids)] += 1
            raised[rows[layer], [e for e in ids if e in rose]] += 1
            lowered[rows[layer], [e for e in ids if e not in rose]] += 1
    return changed, raised, lowered
