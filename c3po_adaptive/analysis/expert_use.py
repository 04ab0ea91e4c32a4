"""Which experts of which layers an arm re-mixed, counted over its questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .statistics import Record

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExpertUse:
    """Counts over an arm's records.

    Attributes:
        n: how many records there are.
        layers: decoder layers, a row each.
        changed: ``[L, E]`` records in which the expert's routing weight changed.
        raised: ``[L, E]`` those in which it rose; None: records do not say.
        lowered: ``[L, E]`` those in which it fell.
    """

    n: int
    layers: tuple[int, ...]
    changed: Counts
    raised: Counts | None
    lowered: Counts | None


def expert_use(records: Sequence[Record]) -> dict[str, ExpertUse]:
    """Of each arm that re-mixed something, on layers and experts that are the same for all."""
    arms: dict[str, list[Record]] = {}
    for record in records:
        arms.setdefault(record["arm"], []).append(record)
    layers = sorted({int(layer) for r in records for layer in (*r["experts"], *r["layer_scores"])})
    experts = 1 + max((e for r in records for ids in r["experts"].values() for e in ids), default=-1)
    rows = {str(layer): i for i, layer in enumerate(layers)}
    return {
        arm: ExpertUse(len(own), tuple(layers), *_counted(own, rows, experts))
        for arm, own in arms.items()
        if any(ids for r in own for ids in r["experts"].values())
    }


def _counted(
    records: Sequence[Record], rows: dict[str, int], experts: int
) -> tuple[Counts, Counts | None, Counts | None]:
    changed, raised, lowered = (np.zeros((len(rows), experts), np.int64) for _ in range(3))
    known = True
    for record in records:
        for layer, ids in record["experts"].items():
            changed[rows[layer], ids] += 1
            moved = _moved(record, layer)
            known = known and moved is not None
            if moved is not None:
                raised[rows[layer], moved[0]] += 1
                lowered[rows[layer], moved[1]] += 1
    return (changed, raised, lowered) if known else (changed, None, None)


def _moved(record: Record, layer: str) -> tuple[list[int], list[int]] | None:
    """Experts whose weight rose, and those whose fell.

    Records of earlier versions name none. There the pathway says so, if it was kept, but for changes below what it is
    rounded to; these are in neither list, unless there was no weight to begin with.
    """
    ids: list[int] = record["experts"][layer]
    if (raised := record.get("raised")) is not None:
        rose = set(raised.get(layer, ()))
        return [e for e in ids if e in rose], [e for e in ids if e not in rose]
    if layer not in record["pathway"]:
        return None
    own, new = (record["pathway"][layer][side] for side in ("own", "new"))
    change = {e: new.get(str(e), 0.0) - own.get(str(e), 0.0) for e in ids}
    return [e for e in ids if change[e] > 0 or str(e) not in own], [e for e in ids if change[e] < 0]
