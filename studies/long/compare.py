"""The comparisons of ``README.md`` from ``results``, and their picture: ``python -m long.compare`` in ``studies``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from long.questions import TOKENS
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import t

from c3po_adaptive.analysis import statistics as stats
from c3po_adaptive.analysis.verdict import corrected
from c3po_adaptive.pictures import save_picture
from c3po_adaptive.records.answer import Answered
from c3po_adaptive.records.parquet import read_parquet
from c3po_adaptive.storage.files import write_text

RESULTS = Path(__file__).parent / "results"
LENGTHS = tuple(map(str, TOKENS))
ALONE = LENGTHS[0]
PRIMARY = ("512", "each", "base")
PAIRS = (("each", "base"), ("one for all", "base"), ("each", "each, random alike"), ("each", "one for all"))
COLORS = {"sound": "#1f63b5", "early": "#b5431f", "each": "#1f8a5b"}

ByLength = Mapping[str, Mapping[str, float]]
"""Of each length, something of each question, by its id."""


def kept() -> dict[str, dict[str, list[Answered]]]:
    """Answers of the model with broken first layers by length, and by arm."""
    found: dict[str, dict[str, list[Answered]]] = {length: {} for length in LENGTHS}
    for record in read_parquet(RESULTS / "early.parquet"):
        found[record.dataset].setdefault(record.arm, []).append(record)
    return found


def right(records: Sequence[Answered]) -> dict[str, float]:
    """Whether each question is answered right."""
    return {record.id: float(record.correct) for record in records}


def less_alone(of: ByLength) -> list[dict[str, Any]]:
    """What each length changes beside the same questions alone, in points."""
    changes = {n: np.array([of[n][id_] - alone for id_, alone in of[ALONE].items()]) for n in LENGTHS[1:]}
    return [
        {"length": n} | {name: 100 * value for name, value in estimate(each).items()} for n, each in changes.items()
    ]


def estimate(each: Sequence[float]) -> dict[str, float]:
    """Their mean with its interval over questions: of flips as the package has it; of others the wider of bootstrap
    and Student's.
    """
    values = np.array(each)
    if set(values) <= {-1, 0, 1}:
        low, high = stats.accuracy_interval([values], int((values != 0).sum()), seed=0)
    else:
        low, high = stats.bootstrap_interval([values], seed=0)
        student = t.interval(0.95, len(values) - 1, values.mean(), stats.standard_error([values]))
        low, high = min(low, float(student[0])), max(high, float(student[1]))
    return {"difference": float(values.mean()), "ci_low": low, "ci_high": high}


def same_experts(routing: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Percent of a question's experts at its last token that are the same as when it stands alone; and, alone, as
    those of the next question of another kind.
    """
    alone = routing[ALONE]
    others = [next(b for b in (*alone[i:], *alone[:i]) if kind(b) != kind(a)) for i, a in enumerate(alone)]
    told = {length: [100 * shared(a, b) for a, b in zip(alone, routing[length], strict=True)] for length in LENGTHS[1:]}
    told["another kind"] = [100 * shared(a, b) for a, b in zip(alone, others, strict=True)]
    return {name: estimate(each) for name, each in told.items()}


def kind(row: Mapping[str, Any]) -> str:
    """Of a question, by its id."""
    return row["id"].partition("/")[0]


def shared(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Share of the experts of ``a`` that ``b`` uses in the same layer."""
    layers = list(zip(a["experts"], b["experts"], strict=True))
    return sum(len({*x} & {*y}) for x, y in layers) / sum(len(x) for x, _ in layers)


def summary() -> dict[str, Any]:
    """All that the page says."""
    answers, routing = kept(), json.loads((RESULTS / "routing.json").read_text())
    compared = [stats.compare(answers[n][a], answers[n][b], seed=0) for n in LENGTHS for a, b in PAIRS]
    found = corrected(compared, {(PRIMARY[0], frozenset(PRIMARY[1:]), "question")})
    arms = {arm: {n: right(answers[n][arm]) for n in LENGTHS} for arm in answers[ALONE]}
    sound = {n: {row["id"]: float(row["right"]) for row in routing[n]} for n in LENGTHS}
    gains = {n: {id_: won - arms["base"][n][id_] for id_, won in arms["each"][n].items()} for n in LENGTHS}
    near = json.loads((RESULTS / "neighbours.json").read_text())
    return {
        "accuracy": {
            name: {n: percent(of[n].values()) for n in LENGTHS} for name, of in ({"sound": sound} | arms).items()
        },
        "comparisons": [one.model_dump(mode="json") for one in found],
        "lost": {name: less_alone(of) for name, of in (("sound", sound), ("early", arms["base"]))},
        "gain less than alone": less_alone(gains),
        "same experts": same_experts(routing),
        "entropy": {n: float(np.mean([row["entropy"] for row in routing[n]])) for n in LENGTHS},
        "weight on own kind": {n: percent(near[n]) for n in LENGTHS},
    }


def percent(values: Any) -> float:
    return 100 * float(np.mean(list(values)))


def picture(found: Mapping[str, Any]) -> Figure:
    """Accuracy by length: the sound model, and the broken one as it is and with a step for each question."""
    figure, (axis, beside) = plt.subplots(1, 2, figsize=(7.5, 3), layout="constrained")
    names = {"sound": "sound", "early": "broken", "each": "broken, each"}
    for name, label in names.items():
        of = found["accuracy"]["base" if name == "early" else name]
        axis.plot(LENGTHS, [of[n] for n in LENGTHS], "o-", color=COLORS[name], label=label, markersize=4)
    axis.set(xlabel="tokens in front", ylabel="right, percent")
    axis.legend(frameon=False, fontsize=8)
    shares = found["weight on own kind"]
    beside.bar(LENGTHS, [shares[n] for n in LENGTHS], color="#9aa3ad", width=0.6)
    beside.set(xlabel="tokens in front", ylabel="weight on own kind, percent")
    return figure


if __name__ == "__main__":
    told = summary()
    write_text(RESULTS / "summary.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    save_picture(picture(told), RESULTS / "by_length.svg")
