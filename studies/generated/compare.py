"""The comparisons of ``README.md`` from ``results/*.parquet``, and their picture: ``python -m generated.compare`` (in
``studies``).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import t

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.holm_families import corrected
from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.records.summary import Comparison
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
MODELS = {"early": "first eight routers broken", "sound": "as it is"}
SCORES = ("likelihood", "generated")
CONTROLS = ("random neighbours", "shuffled labels", "one for all")
PAIRS = (("nearest", "base"), *((arm, "base") for arm in CONTROLS), *(("nearest", arm) for arm in CONTROLS))
PRIMARY = ("early, generated", frozenset(("nearest", "base")), "question")
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
    """What ``a`` wins over ``b`` generated, less by likelihood: of the same questions, in points.

    A question has a value from -2 to 2, of which no exact interval is known: the interval is the wider, on each side,
    of the bootstrap and Student's t; p is by sign flips.
    """
    by = {score: gained(answers[score], a, b) for score in SCORES}
    each = np.array([by["generated"][id_] - won for id_, won in by["likelihood"].items()])
    low, high = stats.bootstrap_interval([each], seed=0)
    half = float(t.ppf(1 - stats.TAIL, len(each) - 1)) * stats.standard_error([each])
    low, high = min(low, each.mean() - half), max(high, each.mean() + half)
    return {"a": a, "b": b} | _told(each, low, high, stats.sign_flip_p([each], seed=0))


def writing(answers: Mapping[str, Arms], arm: str) -> dict[str, Any]:
    """What an arm's accuracy is generated, less by likelihood: of the same questions, in points; as two arms are."""
    right = {score: {r.id: float(r.correct) for r in answers[score][arm]} for score in SCORES}
    each = np.array([right["generated"][id_] - before for id_, before in right["likelihood"].items()])
    up, down = int((each > 0).sum()), int((each < 0).sum())
    low, high = stats.accuracy_interval([each], up + down, 0)
    return {"arm": arm} | _told(each, low, high, stats.mcnemar_p(up, down))


def _told(each: Any, low: float, high: float, p: float) -> dict[str, Any]:
    """In points; and how many questions differ, either way."""
    ends = {"difference": 100 * float(each.mean()), "ci_low": 100 * float(low), "ci_high": 100 * float(high)}
    return ends | {"p": p, "up": int((each > 0).sum()), "down": int((each < 0).sum())}


def summary() -> dict[str, Any]:
    """Of each model: accuracies, comparisons by score, and what having to write changes; each of the three tables is
    Holm's family over both models, but for the primary comparison, which is tested alone.
    """
    answers = {model: kept(model) for model in MODELS}
    cells = {f"{model}, {score}": arms for model, by in answers.items() for score, arms in by.items()}
    compared = corrected(
        [_compared(cell, arms[a], arms[b]) for cell, arms in cells.items() for a, b in PAIRS], {PRIMARY}
    )
    gains = _with_holm({model: [differing(by, a, b) for a, b in PAIRS] for model, by in answers.items()})
    written = _with_holm({m: [writing(by, arm) for arm in ("base", "nearest", *CONTROLS)] for m, by in answers.items()})
    return {
        model: {
            score: {
                "accuracy": {arm: 100 * stats.mean(records, stats.is_correct) for arm, records in arms.items()},
                "none": {arm: 100 * np.mean([r.choice < 0 for r in records]) for arm, records in arms.items()},
                "comparisons": [
                    c.model_dump(mode="json", exclude={"dataset"}) for c in compared if c.dataset == f"{model}, {score}"
                ],
            }
            for score, arms in by.items()
        }
        | {"gains, generated − likelihood": gains[model], "generated − likelihood": written[model]}
        for model, by in answers.items()
    }


def _compared(cell: str, a: list[Answered], b: list[Answered]) -> Comparison:
    return stats.compare(a, b, seed=0).model_copy(update={"dataset": cell})


def _with_holm(table: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """With p after Holm's correction over the rows of both models."""
    adjusted = iter(stats.holm([row["p"] for rows in table.values() for row in rows]))
    return {model: [row | {"p_holm": next(adjusted)} for row in rows] for model, rows in table.items()}


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
