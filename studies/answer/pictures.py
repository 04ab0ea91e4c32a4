"""The study's four pictures from its kept answers: ``python studies/answer/pictures.py`` writes ``results/*.svg``."""

import json

import numpy as np
from compare import MIXTURE, MODELS, RESULTS, Kept, by_kind, case_of, kept, mixed
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

LAYERS = range(16, 28)
NAMES = {"sound": "sound", "early": "first 8 broken", "late": "last 8 broken", "some": "every 2nd broken"}
COLORS = {"each": "#1f63b5", "one for all": "#a8700a", "eight chosen": "#2a7d3f", "learned": "#1f63b5"}
COLORS |= {"sibling": "#2a7d3f", "unknown": "#7b8490"}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "0",
}


def forest(answers: Kept) -> Figure:
    """Each kind's gain over one change for all, on the mixture, and beside it by how much the base is above chance."""
    records = mixed(answers)
    each, one, base = (by_kind([r for r in records if r.arm == arm]) for arm in ("each", "one for all", "base"))
    chance = {r.subject: 0.0 for r in records}
    for kind in chance:
        chance[kind] = float(np.mean([1 / len(r.scores) for r in records if r.arm == "base" and r.subject == kind]))
    order = sorted(each, key=lambda kind: each[kind] - one[kind])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.5, 8.5), sharey=True, width_ratios=[3, 1], layout="constrained"
    )
    for place, kind in enumerate(order):
        differences = _differences(records, kind)
        middle, error = 100 * differences.mean(), 196 * differences.std() / len(differences) ** 0.5
        color = COLORS[case_of(kind)]
        left.plot([middle - error, middle + error], [place, place], color=color, linewidth=1)
        left.plot(middle, place, "o", color=color, markersize=3.5)
        right.plot(100 * (base[kind] - chance[kind]), place, "|", color="#1d2126", markersize=7)
    left.axvline(0, color="#1d2126", linewidth=0.8)
    left.set_yticks(range(len(order)), order, fontsize=6.5)
    left.set_xlabel("a step for each question − one for all, points")
    right.axvline(0, color="#1d2126", linewidth=0.8)
    right.set_xlabel("base − chance")
    for case in ("learned", "sibling", "unknown"):
        left.plot([], [], "o", color=COLORS[case], markersize=3.5, label=case)
    left.legend(title="experts' kinds", frameon=False, loc="lower right")
    return figure


def _differences(records, kind):
    right = {
        arm: {r.id: r.correct for r in records if r.arm == arm and r.subject == kind} for arm in ("each", "one for all")
    }
    return np.array([float(right["each"][id_]) - right["one for all"][id_] for id_ in right["each"]])


def gains(summary) -> Figure:
    """What is won on each model by a step in so many layers, chosen or not."""
    arms = ["last five", "four random", "four chosen", "eight random", "eight chosen", "each", "one for all"]
    models = [model for model in MODELS if any(row["model"] == model for row in summary["rows"])]
    found = {(c["dataset"], c["a"]): c for c in summary["comparisons"] if c["b"] == "base"}
    figure, axes = plt.subplots(1, len(models), figsize=(7.5, 2.8), sharey=True, layout="constrained", squeeze=False)
    accuracy = {(row["model"], row["arm"]): row["accuracy"] for row in summary["rows"]}
    for axis, model in zip(axes[0], models, strict=True):
        for place, arm in enumerate(reversed(arms)):
            gain = accuracy[model, arm] - accuracy[model, "base"]
            axis.barh(place, gain, color=COLORS.get(arm, "#9aa3ad"), height=0.7)
            if (one := found.get((model, arm))) is not None:
                axis.plot([one["ci_low"], one["ci_high"]], [place, place], color="#1d2126", linewidth=1)
        axis.axvline(0, color="#1d2126", linewidth=0.8)
        axis.set_title(NAMES[model], fontsize=9)
        axis.set_yticks(range(len(arms)), reversed(arms))
        axis.set_xlabel("points over base")
    return figure


def layers(summary) -> Figure:
    """What `misrouted` and `amortized` score each layer on each model, beside where it was broken."""
    broken = {"early": range(16, 24), "late": range(20, 28), "some": range(16, 28, 2), "sound": ()}
    models = [model for model in MODELS if model in summary["layers"]]
    figure, axes = plt.subplots(2, len(models), figsize=(7.5, 3.4), sharex=True, layout="constrained", squeeze=False)
    for row, (arm, name) in enumerate((("eight chosen", "wrong routing"), ("eight by leverage", "leverage"))):
        most = max(max(summary["layers"][model][arm]["mean"]) for model in models)
        for axis, model in zip(axes[row], models, strict=True):
            values = summary["layers"][model][arm]["mean"]
            axis.bar(LAYERS, values, color=["#b5461f" if layer in broken[model] else "#9aa3ad" for layer in LAYERS])
            axis.set_ylim(min(0, min(values)), 1.05 * most)
            axis.set_yticks([])
            if row == 0:
                axis.set_title(NAMES[model], fontsize=9)
        axes[row, 0].set_ylabel(name)
    figure.supxlabel("layer (red: its router was broken)", fontsize=9)
    return figure


def costs(summary) -> Figure:
    """Points over the base on the mixture against base forwards a question."""
    rows = {row["arm"]: row for row in summary["rows"] if row["model"] == MIXTURE}
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for arm, row in rows.items():
        gain = row["accuracy"] - rows["base"]["accuracy"]
        axis.plot(row["cost"], gain, "o", color=COLORS.get(arm, "#7b8490"), markersize=5)
        axis.annotate(arm, (row["cost"], gain), xytext=(5, 2), textcoords="offset points", fontsize=7)
    axis.axhline(0, color="#1d2126", linewidth=0.8)
    axis.set(xlabel="base forwards a question", ylabel="points over base, mixture")
    return figure


def main() -> None:
    answers, summary = kept(), json.loads((RESULTS / "summary.json").read_text())
    drawn = {
        "by_kind": forest(answers),
        "by_model": gains(summary),
        "layers": layers(summary),
        "cost": costs(summary),
    }
    for name, figure in drawn.items():
        figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    with plt.rc_context(STYLE):
        main()
