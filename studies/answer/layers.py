"""What each selector gave each layer, and how well that tells broken layers from others:
``python -m answer.layers ROUND sound=RUN early=RUN …`` (in ``studies``), from runs and from the scores that are kept,
writes in ``results/ROUND`` ``layer_scores.npz`` (question by question), ``layers.json`` (means, areas under the curve)
and ``layers.svg``.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
SCORES, MEANS = "layer_scores.npz", "layers.json"
LAYERS = range(16, 28)
BROKEN = {"early": range(16, 24), "late": range(20, 28), "some": range(16, 28, 2)}
"""Layers of each model's fault (``../protocol.md``)."""
SCORED = {"eight chosen": "wrong routing", "eight by leverage": "leverage"}

Scores = Mapping[str, np.ndarray]
"""``[questions, layers]`` by selector's arm."""


def scored(records: Iterable[AnswerRecord]) -> Scores:
    """What each selector gave each layer, question by question."""
    by_arm = defaultdict(list)
    for record in records:
        if record.arm in SCORED:
            by_arm[record.arm].append([record.layer_scores[layer] for layer in LAYERS])
    return {arm: np.array(scores, np.float32) for arm, scores in by_arm.items()}


def found(by_arm: Scores) -> dict[str, dict[str, Any]]:
    """Of each selector's scores of a model's layers: means, and areas under the curve for the layers of each fault, by
    question and of the means.
    """
    truth = {name: [layer in layers for layer in LAYERS] for name, layers in BROKEN.items()}
    return {
        arm: {
            "mean": [round(float(value), 6) for value in np.mean(scores, 0)],
            "auc": {name: round(_mean_auc(scores, true), 4) for name, true in truth.items()},
            "auc_of_means": {
                name: round(float(roc_auc_score(true, np.mean(scores, 0))), 4) for name, true in truth.items()
            },
        }
        for arm, scores in by_arm.items()
    }


def _mean_auc(scores: np.ndarray, true: list[bool]) -> float:
    """Over questions; of all at once, by Mann and Whitney's ranks, as scikit-learn takes a millisecond for each."""
    n = sum(true)
    ranks = rankdata(scores, axis=1)[:, true].sum(1)
    return float(np.mean((ranks - n * (n + 1) / 2) / (n * (len(true) - n))))


def kept_scores(folder: Path) -> dict[str, Scores]:
    """Of each model, as they were kept in a round's folder."""
    of: dict[str, dict[str, np.ndarray]] = {}
    if (folder / SCORES).exists():
        with np.load(folder / SCORES) as kept:
            for name in kept:
                model, arm = name.split("/")
                of.setdefault(model, {})[arm] = kept[name]
    return of


def picture(of: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Mean scores of each layer of each model, a selector a row; red where its router was broken."""
    arms = [arm for arm in SCORED if arm in next(iter(of.values()))]
    size = (7.5, 0.8 + 1.2 * len(arms))
    figure, axes = plt.subplots(len(arms), len(of), figsize=size, layout="constrained", squeeze=False, sharey="row")
    for row, arm in zip(axes, arms, strict=True):
        for axis, model in zip(row, of, strict=True):
            colors = ["#b5461f" if layer in BROKEN.get(model, ()) else "#9aa3ad" for layer in LAYERS]
            axis.bar(LAYERS, of[model][arm]["mean"], color=colors)
            axis.set(title=model, yticks=[])
        row[0].set_ylabel(SCORED[arm])
    figure.supxlabel("layer (red: its router was broken)", fontsize=9)
    return figure


def main(folder: Path, runs: Mapping[str, str]) -> None:
    scores = kept_scores(folder) | {model: scored(read_records(Path(run), AnswerRecord)) for model, run in runs.items()}
    kept = {f"{model}/{arm}": array for model, by_arm in scores.items() for arm, array in by_arm.items()}
    np.savez_compressed(folder / SCORES, **kept)
    of = {model: found(by_arm) for model, by_arm in scores.items()}
    write_text(folder / MEANS, json.dumps(of, indent=1) + "\n")
    save_picture(picture(of), folder / "layers.svg")


if __name__ == "__main__":
    main(RESULTS / sys.argv[1], dict(argument.split("=", 1) for argument in sys.argv[2:]))
