"""The study's four pictures from its kept answers: ``python -m answer.pictures ROUND`` (in ``studies``)."""

import json
import sys
from typing import Any

import numpy as np
from answer.collect import BROKEN, LAYERS, RESULTS
from answer.compare import MIXTURE, MODELS, PARTS, compared, grouped, kept, parts
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from c3po_adaptive.records.answer import Answered

NAMES = {
    "sound": "sound",
    "early": "first 8 broken",
    "late": "last 8 broken",
    "some": "half of every 2nd broken",
}
INK, GREY, RED = "#1d2126", "#9aa3ad", "#b5461f"
COLORS = {"each": "#1f63b5", "eight chosen": "#2a7d3f", "four chosen": "#2a7d3f", "one for all": "#a8700a"}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "0",
}
LEFT = ("eight chosen", "one for all", "each, random alike")
"""Arms that are named on the left of their points, where another is near."""
ARMS = ("last five", "four random", "four chosen", "eight random", "eight chosen", "each", "one for all")

Summary = dict[str, Any]


def forest(of: dict[str, list[Answered]]) -> Figure:
    """Each kind's gain over one change for all, on the mixture, beside by how much its base is above chance."""
    known, others = of[MIXTURE], of.get(f"{MIXTURE}, others", [])
    kinds = [(kind, records, COLORS["each"]) for kind, records in grouped(known, "subject").items()]
    kinds += [(kind, records, GREY) for kind, records in grouped(others, "subject").items()]
    kinds.sort(key=lambda found: _differences(found[1]).mean())
    size = (7.5, 0.15 * len(kinds) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=[3, 1], layout="constrained")
    for place, (_, records, color) in enumerate(kinds):
        each = _differences(records)
        middle, error = 100 * each.mean(), 196 * each.std() / len(each) ** 0.5
        left.plot([middle - error, middle + error], [place, place], color=color, linewidth=1)
        left.plot(middle, place, "o", color=color, markersize=3.5)
        above = np.mean([record.correct - 1 / len(record.scores) for record in records if record.arm == "base"])
        right.plot(100 * above, place, "|", color=INK, markersize=6)
    left.set_yticks(range(len(kinds)), [kind for kind, _, _ in kinds], fontsize=6.5)
    left.set_xlabel("a step for each question − one for all, points")
    right.set_xlabel("base − chance")
    for axis in (left, right):
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.margins(y=0.01)
    for name, color in (("experts learned it", COLORS["each"]), ("they did not", GREY)):
        left.plot([], [], "o", color=color, markersize=3.5, label=name)
    left.legend(frameon=False, loc="lower right")
    return figure


def _differences(records: list[Answered]) -> np.ndarray:
    """Of each question, whether ``each`` is right, less whether ``one for all`` is."""
    right = {arm: {r.id: r.correct for r in records if r.arm == arm} for arm in ("each", "one for all")}
    return np.array([float(right["each"][id_]) - right["one for all"][id_] for id_ in right["each"]])


def gains(of: dict[str, list[Answered]]) -> Figure:
    """What is won on each model by a step in so many layers, chosen or not; kinds whose experts exist."""
    models = [model for model in MODELS if model in of]
    figure, axes = plt.subplots(
        1, len(models), figsize=(7.5, 2.8), sharey=True, sharex=True, layout="constrained", squeeze=False
    )
    asked = {record.arm for record in of[models[0]]}
    arms = [arm for arm in reversed(ARMS) if arm in asked]
    for axis, model in zip(axes[0], models, strict=True):
        for place, arm in enumerate(arms):
            one = compared(of[model], arm, "base")
            axis.barh(place, one.difference, color=COLORS.get(arm, GREY), height=0.7)
            axis.plot([one.ci_low, one.ci_high], [place, place], color=INK, linewidth=1)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_title(NAMES[model], fontsize=9)
        axis.set_yticks(range(len(arms)), arms)
    figure.supxlabel("points over the model as it is", fontsize=9)
    return figure


def layers(summary: Summary) -> Figure:
    """What ``misrouted`` and ``amortized`` score each layer on each model, beside where it was broken."""
    models = [model for model in MODELS if model in summary["layers"]]
    selectors = {"eight chosen": "wrong routing", "eight by leverage": "leverage"}
    scored = {arm: name for arm, name in selectors.items() if arm in summary["layers"][models[0]]}
    size = (7.5, 0.8 + 1.2 * len(scored))
    figure, axes = plt.subplots(
        len(scored), len(models), figsize=size, sharex=True, layout="constrained", squeeze=False
    )
    for row, (arm, name) in enumerate(scored.items()):
        most = max(max(summary["layers"][model][arm]["mean"]) for model in models)
        for axis, model in zip(axes[row], models, strict=True):
            values = summary["layers"][model][arm]["mean"]
            axis.bar(LAYERS, values, color=[RED if layer in BROKEN.get(model, ()) else GREY for layer in LAYERS])
            axis.set_ylim(min(0, *values), 1.05 * most)
            axis.set_yticks([])
            if row == 0:
                axis.set_title(NAMES[model], fontsize=9)
        axes[row, 0].set_ylabel(name)
    figure.supxlabel("layer (red: its router was broken)", fontsize=9)
    return figure


def costs(summary: Summary) -> Figure:
    """Points over the base on the mixture against base forwards a question."""
    rows = {row["arm"]: row for row in summary["rows"] if row["part"] == MIXTURE}
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for arm, row in rows.items():
        gain = row["accuracy"] - rows["base"]["accuracy"]
        axis.plot(row["cost"], gain, "o", color=COLORS.get(arm, GREY), markersize=5)
        place, side = ((-5, 2), "right") if arm in LEFT else ((5, 2), "left")
        axis.annotate(arm, (row["cost"], gain), xytext=place, ha=side, textcoords="offset points", fontsize=7)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set(xlabel="base forwards a question", ylabel="points over the model as it is")
    return figure


def main(name: str) -> None:
    folder = RESULTS / name
    of, summary = parts(kept(name), PARTS[name]), json.loads((folder / "summary.json").read_text())
    drawn = {"by_kind": forest(of), "by_model": gains(of), "layers": layers(summary), "cost": costs(summary)}
    for picture, figure in drawn.items():
        figure.savefig(folder / f"{picture}.svg", metadata={"Date": None})


if __name__ == "__main__":
    with plt.rc_context(STYLE):
        main(sys.argv[1])
