"""From runs to what is kept of them: ``python -m answer.collect ROUND sound=RUN early=RUN …`` (in ``studies``)

Of each model's run ``results/ROUND/MODEL.parquet`` (every answer, without pathways), ``layer_scores.npz`` (what each
selector gave each layer, question by question) and, in ``layers.json``, the means of these and how well they tell
broken layers from others.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from c3po_adaptive.records.answer import AnswerRecord
from c3po_adaptive.records.jsonl import read_records
from c3po_adaptive.records.parquet import write_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
SCORES, MEANS = "layer_scores.npz", "layers.json"
LAYERS = range(16, 28)
BROKEN = {"early": range(16, 24), "late": range(20, 28), "some": range(16, 28, 2)}
"""Layers of each model's fault (``../protocol.md``)."""
SCORED = ("eight chosen", "eight by leverage")


Scores = Mapping[str, np.ndarray]
"""``[questions, layers]`` by selector's arm."""


def scored(records: Iterable[AnswerRecord]) -> Scores:
    """What each selector gave each layer, question by question."""
    by_arm = defaultdict(list)
    for record in records:
        if record.arm in SCORED:
            by_arm[record.arm].append([record.layer_scores[layer] for layer in LAYERS])
    return {arm: np.array(scores, np.float32) for arm, scores in by_arm.items()}


def found(by_arm: Scores, broken: Mapping[str, range]) -> dict[str, dict[str, object]]:
    """Of each selector's scores of a model's layers: means, and areas under the curve for some layers, by question and
    of the means.
    """
    truth = {name: [layer in layers for layer in LAYERS] for name, layers in broken.items()}
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
    found: dict[str, Scores] = {}
    if not (folder / SCORES).exists():
        return found
    with np.load(folder / SCORES) as kept:
        for name in kept:
            model, arm = name.split("/")
            found.setdefault(model, {})[arm] = kept[name]
    return found


def main(folder: Path, runs: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scores = kept_scores(folder)
    for model, run in runs.items():
        records = read_records(Path(run), AnswerRecord)
        write_parquet(records, folder / f"{model}.parquet")
        if own := scored(records):
            scores[model] = own
        print(f"{model}: {len(records)} answers")
    if not scores:
        return
    np.savez_compressed(
        folder / SCORES, **{f"{model}/{arm}": array for model, of in scores.items() for arm, array in of.items()}
    )
    layers = {model: found(of, BROKEN) for model, of in scores.items()}
    write_text(folder / MEANS, json.dumps(layers, indent=1) + "\n")


if __name__ == "__main__":
    main(RESULTS / sys.argv[1], dict(argument.split("=", 1) for argument in sys.argv[2:]))
