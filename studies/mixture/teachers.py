"""Does predicted transfer order references by what they teach a question better than similarity does? No test question.

B_ij = ⟨g_i, g_j⟩ between references of the pool that nothing was learned from, a fifth of them at a time, against what
each way to find teachers predicts of it.

C3PO_DATA=FOLDER python studies/mixture/teachers.py CONFIG.yaml ASKED.yaml OUT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import opened
from scipy.stats import rankdata

from c3po_adaptive import ReferenceFeatures
from c3po_adaptive.storage.files import write_text

FOLDS, Transfer, correlation = (
    getattr(opened.plugin("transfer"), name) for name in ("FOLDS", "Transfer", "correlation")
)
Array = Any
Place = Callable[[Array, Array, Array], Array]
"""From rows that are learned from, gradients, and rows that are asked, to where these are placed."""


def main(config: str, asked: str, out: str) -> None:
    worker = opened.worker_of(config, asked)
    c3po = opened.optimizer(worker, "transfer 100")
    references = c3po.references
    lessons = c3po.remixer.training.lessons()
    known, gradients = lessons.known, lessons.gradients.reshape(len(references), -1)
    texts, sets = references.vectors, np.array([q.task for q in references.questions])
    every = np.concatenate([known[part] for part in Transfer().reads], 1)
    ways: dict[str, tuple[Array, Place]] = {
        "similarity of texts": (texts, _as_it_is),
        "similarity of states": (known["state"], _as_it_is),
        "learned from texts": (texts, _learned),
        "learned from form": (known["form"], _learned),
        "learned from states": (known["state"], _learned),
        "transfer": (every, _learned),
        "transfer, shuffled": (every, partial(_learned, shuffled=True)),
        "data set told": ((sets[:, None] == np.unique(sets)).astype(float), _learned),
    }
    found = {name: held_out(x, gradients, place) for name, (x, place) in ways.items()}
    for name, row in found.items():
        print(name, row)
    write_text(Path(out), json.dumps({"references": len(references), "ways": found}, indent=1) + "\n")


def held_out(x: Array, gradients: Array, place: Place) -> dict[str, float]:
    """Over fifths that nothing was learned from: correlation over pairs, and the rank correlation over the teachers of
    one question, mean over questions; each with its standard error, over fifths and over questions."""
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    pairs, orders = [], []
    for f in range(FOLDS):
        own = fold == f
        placed, true = place(x[~own], gradients[~own], x[own]), gradients[own] @ gradients[own].T
        pairs.append(correlation(placed, true))
        orders += _orders(placed @ placed.T, true)
    return {
        "pairs": float(np.mean(pairs)),
        "pairs_error": float(np.std(pairs, ddof=1) / FOLDS**0.5),
        "order": float(np.mean(orders)),
        "order_error": float(np.std(orders, ddof=1) / len(orders) ** 0.5),
    }


def _orders(predicted: Array, true: Array) -> list[float]:
    """Spearman's of each question's row, itself left out; 0 where all are predicted alike."""
    found = []
    for i, (one, other) in enumerate(zip(predicted, true, strict=True)):
        a, b = np.delete(one, i), np.delete(other, i)
        found.append(float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) if np.ptp(a) > 1e-12 else 0.0)
    return found


def _as_it_is(x: Array, gradients: Array, asked: Array) -> Array:
    """Places whose products are cosines, of what differs from the mean of those that are known."""
    apart = asked - x.mean(0)
    return apart / np.linalg.norm(apart, axis=1, keepdims=True).clip(1e-12)


def _learned(x: Array, gradients: Array, asked: Array, *, shuffled: bool = False) -> Array:
    """By transfer's own way of learning, whatever is known."""
    return (
        Transfer(reads=("state",), shuffled=shuffled)
        .prepare(ReferenceFeatures(x, {"state": x}, gradients))
        .placed(asked)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
