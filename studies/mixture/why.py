"""What differs from question to question in what each arm does, and from data set to data set; no label is looked at.

C3PO_DATA=FOLDER python studies/mixture/why.py CONFIG.yaml ASKED.yaml OUT.json 40 "nearest 300" "four factors"
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import opened
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from c3po_adaptive import Optimizer
from c3po_adaptive.progress import bar
from c3po_adaptive.storage.files import write_text
from c3po_adaptive.study.comparison.comparison_worker import ComparisonWorker
from c3po_adaptive.tasks.formats import description


def main(config: str, asked: str, out: str, each: str, *names: str) -> None:
    """``each``: how many questions of each data set; ``names``: of arms."""
    worker = opened.worker_of(config, asked)
    questions = {name: list(part.questions[: int(each)]) for name, part in worker.data.items()}
    sets = np.repeat([*questions], [len(part) for part in questions.values()])
    found: dict[str, Any] = {}
    for name in names:
        c3po = opened.optimizer(worker, name)
        changes = torch.cat([_changes(worker, c3po, dataset, part) for dataset, part in questions.items()]).numpy()
        found[name] = shares(changes.reshape(len(changes), -1), sets) | _layers(changes, sets)
        print(name, {k: round(v, 3) for k, v in found[name].items() if isinstance(v, float)})
    told = _told(worker, questions, sets)
    write_text(Path(out), json.dumps({"questions": len(sets), "data_sets_told": told, "arms": found}, indent=1) + "\n")


def _changes(worker: ComparisonWorker, c3po: Optimizer, dataset: str, questions: list[Any]) -> torch.Tensor:
    """``[N, L, E]`` Δω of each question."""
    size, found = worker.config.batch_size, []
    for part in bar([questions[i : i + size] for i in range(0, len(questions), size)], dataset):
        states = worker.model.prefill([worker.model.encode(q, worker.config.format_of(dataset)) for q in part])
        pathway = c3po.remixer.remix(states, [description(q) for q in part], part).pathway
        found.append((pathway.weights - pathway.own).detach())
    return torch.cat(found)


def shares(changes: np.ndarray, sets: np.ndarray) -> dict[str, float]:
    """Of changes ``[N, D]``, what is common to all, what differs between data sets, and what differs within them, as
    shares of the three: components of variance, so that means of few questions add nothing of what differs within."""
    names = np.unique(sets)
    means = np.stack([changes[sets == name].mean(0) for name in names])
    each = len(changes) / len(names)
    within = sum(((changes[sets == name] - m) ** 2).sum() for name, m in zip(names, means, strict=True))
    within /= len(changes) - len(names)
    between = max(0.0, ((means - means.mean(0)) ** 2).sum() / (len(names) - 1) - within / each)
    constant = max(0.0, (means.mean(0) ** 2).sum() - between / len(names) - within / len(changes))
    parts = {"constant": constant, "between": between, "within": within}
    whole = max(sum(parts.values()), 1e-30)
    length = float((changes**2).sum(1).mean() ** 0.5)
    return {name: float(part / whole) for name, part in parts.items()} | {"length": length}


def _layers(changes: np.ndarray, sets: np.ndarray) -> dict[str, Mapping[str, list[float]]]:
    """How often each layer was changed, by data set."""
    moved = np.abs(changes).max(-1) > 1e-6
    return {"layers": {name: [round(x, 3) for x in moved[sets == name].mean(0)] for name in dict.fromkeys(sets)}}


def _told(worker: ComparisonWorker, questions: Mapping[str, list[Any]], sets: np.ndarray) -> dict[str, float]:
    """How well a linear classifier tells the data set, from what neighbours and from what steps are found by."""
    texts = np.concatenate([worker.embedder.encode([description(q) for q in part]) for part in questions.values()])
    read = []
    for dataset, part in questions.items():
        states = worker.model.prefill([worker.model.encode(q, worker.config.format_of(dataset)) for q in part])
        read.append(torch.stack([state.router_input[0] for state in states]).numpy())
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1))
    return {
        name: float(cross_val_score(classifier, x, sets, cv=5).mean())
        for name, x in (("embedding", texts), ("state", np.concatenate(read)))
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
