"""The study's pictures from its kept answers: ``python -m poisoned.pictures`` (in ``studies``)."""

from collections.abc import Iterable, Mapping

from answer.pictures import INK, STYLE
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from poisoned import again
from poisoned.compare import DEFENCES, RESULTS, SEED, Answers, by_arm, kept

from c3po_adaptive.analysis.statistics import compare
from c3po_adaptive.records.summary import Comparison

COLORS = {
    "nearest": "#1f63b5",
    "capped": "#2a7d3f",
    "median of means": "#a8700a",
    "agreeing": "#c2185b",
    "consistent": "#b5461f",
    "successful": "#7a4ea3",
    "one for all": "#9aa3ad",
}
CURVES = {
    "flipped labels": ("clean", "flipped 10", "flipped 30", "flipped 50"),
    "crafted neighbours": ("clean", "crafted 10", "crafted 30"),
    "near-duplicates": ("clean", "duplicates 30"),
}


def curves(answers: Answers) -> Figure:
    """Points over the model as it is against the share that is poisoned, attack by attack."""
    shown = {title: sets for title, sets in CURVES.items() if any(name in answers for name in sets[1:])}
    figure, axes = plt.subplots(1, len(shown), figsize=(7.5, 3), sharey=True, layout="constrained", squeeze=False)
    for axis, (title, sets) in zip(axes[0], shown.items(), strict=True):
        _attack(axis, {_share(name): answers[name] for name in sets if name in answers})
        axis.set_title(title, fontsize=9)
    axes[0, 0].set_ylabel("points over the model as it is")
    figure.supxlabel("share of the references that is poisoned, %", fontsize=9)
    axes[0, 0].legend(frameon=False, fontsize=7)
    return figure


def by_attack(answers: Answers) -> Figure:
    """Of the second round, points over the model as it is: a group a data set, a point with 95 % an arm."""
    figure, axis = plt.subplots(figsize=(7.5, 3), layout="constrained")
    sets = [name for name in answers if not name.endswith(again.PAPER)]
    arms = [arm for arm in COLORS if all(arm in by_arm(answers[name]) for name in sets)]
    for place, arm in enumerate(arms):
        at = [group + 0.13 * (place - (len(arms) - 1) / 2) for group in range(len(sets))]
        found = [_gain(answers[name], arm) for name in sets]
        axis.vlines(at, [one.ci_low for one in found], [one.ci_high for one in found], color=COLORS[arm], linewidth=1)
        axis.plot(at, [one.difference for one in found], "o", color=COLORS[arm], markersize=4, label=arm)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_xticks(range(len(sets)), [name.replace(" 30", " 30 %") for name in sets])
    axis.set_ylabel("points over the model as it is")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _attack(axis: Axes, by_share: Mapping[int, Iterable[object]]) -> None:
    """Each arm's gain by share, a little beside each other, with 95 % intervals."""
    for place, arm in enumerate(("nearest", *DEFENCES, "one for all")):
        found = {share: _gain(records, arm) for share, records in by_share.items()}
        told = {share: one for share, one in found.items() if one is not None}
        if not told:
            continue
        places = [share + 0.7 * place for share in told]
        middle = [one.difference for one in told.values()]
        low, high = ([getattr(one, end) for one in told.values()] for end in ("ci_low", "ci_high"))
        axis.plot(places, middle, "o-", color=COLORS[arm], markersize=3.5, linewidth=1, label=arm)
        axis.vlines(places, low, high, color=COLORS[arm], linewidth=0.7)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set_xticks([*by_share])


def _gain(records: Iterable[object], arm: str) -> Comparison | None:
    arms = by_arm(records)
    return compare(arms[arm], arms["base"], seed=SEED) if arm in arms else None


def _share(dataset: str) -> int:
    last = dataset.split()[-1]
    return int(last) if last.isdigit() else 0


def main() -> None:
    with plt.rc_context(STYLE):
        curves(kept()).savefig(RESULTS / "curves.svg", metadata={"Date": None})
        by_attack(again.kept()).savefig(RESULTS / "again.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
