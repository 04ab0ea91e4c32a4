"""The comparisons of ``README.md`` from ``results/*.parquet``, and their picture: ``python -m generated.compare`` (in
``studies``).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
MODELS = {"early": "first eight routers broken", "sound": "as it is"}
SCORES = ("likelihood", "generated")
CONTROLS = ("random neighbours", "shuffled labels", "one for all")
PAIRS = (("nearest", "base"), *((arm, "base") for arm in CONTROLS), *(("nearest", arm) for arm in CONTROLS))
COLORS = {"likelihood": "#9aa3ad", "generated": "#1f63b5"}

Arms = Mapping[str, list[Answered]]


def kept(model: str) -> dict[str, Arms]:
    """Answers of a model by how they were scored, and by arm."""
    found: dict[str, dict[str, list[Answered]]] = {score: {} for score in SCORES}
    for record in read_parquet(RESULTS / f"{model}.parquet"):
        found[record.dataset].setdefault(record.arm, []).append(record)
    return dict(found)


def gained(arms: Arms, a: str, b: str) -> dict[str, float]:
    """What arm ``a`` wins over ``b``, question by question."""
    right = {arm: {r.id: float(r.correct) for r in arms[arm]} for arm in (a, b)}
    return {id_: won - right[b][id_] for id_, won in right[a].items()}


def differing(answers: Mapping[str, Arms], a: str, b: str) -> dict[str, Any]:
    """What ``a`` wins over ``b`` generated, less by likelihood: of the same questions, in points."""
    by = {score: gained(answers[score], a, b) for score in SCORES}
    return {"a": a, "b": b} | _estimate([by["generated"][id_] - won for id_, won in by["likelihood"].items()])


def writing(answers: Mapping[str, Arms], arm: str) -> dict[str, Any]:
    """What an arm's accuracy is generated, less by likelihood: of the same questions, in points."""
    right = {score: {r.id: float(r.correct) for r in answers[score][arm]} for score in SCORES}
    return {"arm": arm} | _estimate([right["generated"][id_] - before for id_, before in right["likelihood"].items()])


def _estimate(each: Sequence[float]) -> dict[str, float]:
    """Their mean with its interval, in points."""
    low, high = stats.bootstrap_interval([np.array(each)], seed=0)
    return {"difference": 100 * float(np.mean(each)), "ci_low": 100 * low, "ci_high": 100 * high}


def summary() -> dict[str, Any]:
    """Of each model: accuracies, comparisons by score, and the difference of what is won."""
    found: dict[str, Any] = {}
    for model in MODELS:
        answers = kept(model)
        found[model] = {
            score: {
                "accuracy": {arm: 100 * stats.mean(records, stats.is_correct) for arm, records in arms.items()},
                "none": {arm: 100 * np.mean([r.choice < 0 for r in records]) for arm, records in arms.items()},
                "comparisons": [
                    stats.compare(arms[a], arms[b], seed=0).model_dump(mode="json", exclude={"dataset"})
                    for a, b in PAIRS
                ],
            }
            for score, arms in answers.items()
        }
        found[model]["gains, generated − likelihood"] = [differing(answers, a, b) for a, b in PAIRS]
        found[model]["generated − likelihood"] = [writing(answers, arm) for arm in ("base", "nearest", *CONTROLS)]
    return found


def picture(found: Mapping[str, Any]) -> Figure:
    """What each arm wins over the base on each model, one way to score beside the other."""
    arms = ("nearest", *CONTROLS)
    figure, axes = plt.subplots(1, len(MODELS), figsize=(7.5, 2.4), sharex=True, sharey=True, layout="constrained")
    for axis, (model, name) in zip(axes, MODELS.items(), strict=True):
        for place, arm in enumerate(reversed(arms)):
            for score, off in zip(SCORES, (0.15, -0.15), strict=True):
                (one,) = (c for c in found[model][score]["comparisons"] if (c["a"], c["b"]) == (arm, "base"))
                ends = [one["ci_low"], one["ci_high"]]
                label = score if place == 0 else None
                axis.plot(ends, [place + off] * 2, color=COLORS[score], linewidth=1.5)
                axis.plot(one["difference"], place + off, "o", color=COLORS[score], markersize=4, label=label)
        axis.axvline(0, color="#1d2126", linewidth=0.8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("gain over the base, points")
    axes[0].set_yticks(range(len(arms)), reversed(arms))
    axes[1].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    told = summary()
    write_text(RESULTS / "summary.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    save_picture(picture(told), RESULTS / "gains.svg")
