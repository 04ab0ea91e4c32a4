"""Which experts of which layers an arm re-mixed, counted over its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..records.answer import AnswerRecord


def expert_use(records: Sequence[AnswerRecord]) -> dict[str, dict[str, object]]:
    """Counts over the records of each arm that re-mixed something, in plain values: how many these are (``n``), the
    ``layers``, a row each, and ``[L, E]`` how often each expert's weight ``changed``, rose (``raised``) and fell
    (``lowered``), on layers and experts that are the same for all arms."""
    arms: dict[str, list[AnswerRecord]] = {}
    for record in records:
        arms.setdefault(record.arm, []).append(record)
    layers = sorted({layer for r in records for layer in (*r.experts, *r.layer_scores)})
    experts = 1 + max((e for r in records for ids in r.experts.values() for e in ids), default=-1)
    rows = {layer: i for i, layer in enumerate(layers)}
    return {
        arm: {"n": len(own), "layers": layers, **_counted(own, rows, experts)}
        for arm, own in arms.items()
        if any(ids for r in own for ids in r.experts.values())
    }


def _counted(records: Sequence[AnswerRecord], rows: Mapping[int, int], experts: int) -> dict[str, object]:
    changed, raised = (np.zeros((len(rows), experts), int) for _ in range(2))
    for record in records:
        for layer, ids in record.experts.items():
            changed[rows[layer], list(ids)] += 1
            raised[rows[layer], [e for e in ids if e in record.raised.get(layer, ())]] += 1
    return {"changed": changed.tolist(), "raised": raised.tolist(), "lowered": (changed - raised).tolist()}
