"""The figures of a comparison's page, each as the SVG of a function that draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, LINE, WIDTH, as_svg, by_arm, cells, panels, square, style, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ..analysis.calibration import Bin
    from ..analysis.gain_by_kind import KindRow
    from ..pictures import Panel
    from ..records.summary import Coverage, Predicted, Row, RowCost

QUESTIONS = tuple(10 ** (k / 8) for k in range(49))  # from a single one to a million
LETTER = 0.08
"""Inches of one letter of a long name."""
SHAPES = "osD^v<>"
"""Marks of several lines."""


@dataclass(frozen=True)
class Mark:
    """A line of a forest: a difference with its interval.

    Attributes:
        within: bounds about zero that it is held against, shaded; None: none.
        digits: behind the point.
    """

    name: str
    value: float
    low: float
    high: float
    color: str
    within: float | None = None
    digits: int = 1


def gains(rows: Sequence[Row]) -> str:
    """Each arm's gain over base with its interval."""
    rows = _others(rows)
    marks = [Mark(row.arm, row.gain, row.ci_low, row.ci_high, COLORS[row.role]) for row in rows]
    label = "Gain of each arm over base, in points, with 95 % interval"
    return forest(marks, "points over base, 95 % interval", label)


def forest(marks: Sequence[Mark], unit: str, label: str, *, wide: bool = False) -> str:
    """Differences with their intervals, a line each, and their figures beside; ``wide``: with room for long names."""
    with style():
        figure, axes = by_arm([mark.name for mark in marks], unit)
        if wide:
            figure.set_figwidth(WIDTH + LETTER * max(len(mark.name) for mark in marks))
        axes.axvline(0, color=COLORS["text"], linewidth=0.8)
        for y, mark in enumerate(marks):
            if mark.within:
                axes.fill_betweenx([y - 0.35, y + 0.35], -mark.within, mark.within, color=COLORS["grid"])
            axes.plot([mark.low, mark.high], [y, y], color=mark.color, linewidth=2, solid_capstyle="round")
            axes.plot(mark.value, y, "o", color=mark.color, markersize=6)
            # In a column of its own: on the line it would be struck through.
            axes.annotate(
                f"{mark.value:+.{mark.digits}f} [{mark.low:+.{mark.digits}f}, {mark.high:+.{mark.digits}f}]".replace(
                    "-", "−"
                ),
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
                size=8,
            )
        return svg(figure, label)


@as_svg("Accuracy of each arm, beside published figures of its method")
def with_published(rows: Sequence[Row], published: Mapping[str, float], label: str) -> Figure:
    """Each arm's accuracy, and dashed what others report of its method.

    Args:
        published: percent by the arm's name.
        label: whose figures these are.
    """
    figure, axes = by_arm([row.arm for row in rows], "accuracy, %")
    axes.axvline(rows[0].chance, color=COLORS["text"], linewidth=0.8, linestyle=":", label="chance")
    for y, row in enumerate(rows):
        axes.plot(row.accuracy, y, "o", color=COLORS[row.role], markersize=6)
    at = [(y, published[row.arm]) for y, row in enumerate(rows) if row.arm in published]
    places, accuracies = zip(*at, strict=True)
    low, high = ([place + sign * 0.42 for place in places] for sign in (-1, 1))
    axes.vlines(accuracies, low, high, color=COLORS["text"], linewidth=1.4, linestyle="--", label=label)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    return figure


@as_svg("Gain over base by data set and kind of question, in points, with 95 % intervals")
def gains_by_kind(rows: Sequence[KindRow], roles: Mapping[str, str]) -> Figure | None:
    """The gain on each data set, and (set in) on each kind of question in it, with its interval; an arm's marks stand
    below the other's. Empty if there are none.

    Args:
        rows: as of ``gain_by_kind``; those of several arms on one kind follow each other.
        roles: of the arms.
    """
    if not rows:
        return None
    places = list(dict.fromkeys((row.dataset, row.kind) for row in rows))
    arms = list(dict.fromkeys((row.arm, roles[row.arm]) for row in rows))
    names = [name if kind is None else f"{kind or 'no kind'} " for name, kind in places]
    figure, axes = by_arm(names, "points over base, 95 % interval")
    for tick, (_, kind) in zip(axes.get_yticklabels(), places, strict=True):
        tick.set_fontsize(10 if kind is None else 8)
    axes.axvline(0, color=COLORS["text"], linewidth=0.8)
    for k, (arm, role) in enumerate(arms):
        own = [row for row in rows if row.arm == arm]
        y = [places.index((row.dataset, row.kind)) + 0.24 * (k - (len(arms) - 1) / 2) for row in own]
        color, mark = COLORS[role], "o" if k == 0 else "D"
        axes.hlines(y, [r.ci_low for r in own], [r.ci_high for r in own], color=color, linewidth=1.5)
        label = f"{arm} (control)" if role == "control" else arm
        axes.plot([r.gain for r in own], y, mark, color=color, markersize=5 - k, label=label)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    return figure


@as_svg("Accuracy by confidence, base beside the arm that the run is about, with 95 % intervals")
def reliability(bins: Mapping[str, tuple[str, Sequence[Bin]]]) -> Figure:
    """Accuracy against confidence, with intervals; below, how many answers each bin holds."""
    figure, (axes, counts) = panels(3.9, 2, (3, 1))
    axes.plot([0, 100], [0, 100], color=COLORS["text"], linewidth=0.8, linestyle="--")
    for k, (arm, (role, found)) in enumerate(bins.items()):
        color, x = COLORS[role], [100 * b.confidence for b in found]
        axes.vlines(x, [100 * b.low for b in found], [100 * b.high for b in found], color=color, alpha=0.6)
        axes.plot(x, [100 * b.accuracy for b in found], "sD"[k] + "-", color=color, markersize=5, label=arm)
        counts.bar([v - 1 + 2 * k for v in x], [b.n for b in found], color=color, width=2)
    axes.set(ylabel="right, %", xlim=(0, 100), ylim=(-3, 103))  # marks at the edge are whole
    axes.grid(True)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    counts.set(ylabel="answers", xlabel="confidence, %")
    _whole_numbers(counts.yaxis)
    return figure


@as_svg("Number of questions that each arm flipped to right and to wrong")
def flips(rows: Sequence[Row]) -> Figure:
    """Answers that became right (to the right) and wrong (to the left)."""
    rows = _others(rows)
    figure, axes = by_arm([row.arm for row in rows], "← became wrong · became right →")
    up, down = [r.flips_up for r in rows], [r.flips_down for r in rows]
    lines = range(len(rows))
    bars = [
        axes.barh(lines, up, height=0.6, color=COLORS["up"]),
        axes.barh(lines, [-d for d in down], height=0.6, color=COLORS["down"]),
    ]
    for bar, counts in zip(bars, (up, down), strict=True):
        axes.bar_label(bar, [str(c) if c else "" for c in counts], padding=3, size=8)
    axes.axvline(0, color=COLORS["text"], linewidth=0.8)
    axes.margins(x=0.12)
    if not any(up + down):
        axes.set_xlim(-1, 1)
    axes.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
    _whole_numbers(axes.xaxis)
    return figure


@as_svg("Share of questions for which each decoder layer was re-mixed, by arm")
def layers(chosen: Mapping[str, Sequence[Sequence[int]]], roles: Mapping[str, str]) -> Figure | None:
    """How often each decoder layer was re-mixed, one small histogram per arm.

    Args:
        chosen: layers of each sample, by arm; arms that re-mix none are left out.
        roles: of the arms.
    """
    shares = {
        arm: {layer: 100 * n / len(samples) for layer, n in Counter(x for sample in samples for x in sample).items()}
        for arm, samples in chosen.items()
        if any(samples)
    }
    if not shares:
        return None
    figure, every = panels(0.5 + 0.6 * len(shares), len(shares))
    for axes, (arm, share) in zip(every, shares.items(), strict=True):
        axes.bar(list(share), list(share.values()), color=COLORS[roles[arm]], width=0.75)
        axes.set_ylim(0, 140)  # the arm's name stands above full bars
        axes.set_yticks([0, 100], ["0", "100 %"], size=7)
        axes.set_title(arm, loc="left", size=9, pad=2)
    every[-1].set_xlabel("decoder layer")
    _whole_numbers(every[-1].xaxis)
    return figure


@as_svg("Accuracy of each arm against its cost in base forwards")
def costs(rows: Sequence[Row]) -> Figure:
    """Accuracy against cost, with the gains' intervals and the Pareto front of what needs no label; names stand in a
    column at the right, so that near points keep theirs readable.
    """
    figure, (axes,) = panels(max(2.4, LINE * len(rows) + 0.8))
    x, y = [r.cost.total for r in rows], [r.accuracy for r in rows]
    axes.scatter(x, y, s=36, color=[COLORS[r.role] for r in rows], zorder=3)
    for row, place, height in zip(rows, x, y, strict=True):
        base = height - row.gain  # a gain's interval, on the base's accuracy
        ends = [base + row.ci_low, base + row.ci_high]
        axes.plot([place, place], ends, color=COLORS[row.role], linewidth=1, alpha=0.6)
    front = _front([(a, b) for a, b, r in zip(x, y, rows, strict=True) if not r.needs_label])
    axes.plot(*zip(*front, strict=True), color=COLORS["base"], linewidth=0.8, linestyle="--", zorder=1)
    if max(x) > 8 * min(x):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="cost of an answer, in base forwards", ylabel="accuracy, %")
    axes.grid(True)
    axes.margins(0.08)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -3), min(high, 103))  # intervals of few questions leave what accuracy can be
    _name_at_the_right(axes, [row.arm for row in rows], x, y)
    return figure


@as_svg("Cost of an answer in base forwards by the number of questions, one-time costs included")
def costs_over(rows: Sequence[Row]) -> Figure | None:
    """Cost of an answer by how many questions are asked, what was spent once included, a line for each arm; empty if
    nothing was spent once, or records do not say.
    """
    drawn = [row for row in rows if row.cost.once is not None]
    if not any(row.cost.once for row in drawn):
        return None
    lines = {row.arm: [cost_over(row.cost, n) for n in QUESTIONS] for row in drawn}
    figure, (axes,) = panels(max(2.8, LINE * len(drawn) + 0.8))
    axes.set(xscale="log", yscale="log", xlabel="questions asked", ylabel="base forwards a question")
    for row in drawn:
        dashes = "--" if row.role == "control" else "-"
        axes.plot(QUESTIONS, lines[row.arm], dashes, color=COLORS[row.role], linewidth=1.2)
    axes.set_xticks([1, 100, 10_000, 1_000_000])
    axes.xaxis.set_major_formatter("{x:,.0f}")  # the usual one writes TeX, which is no SVG text
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(True)
    last = [lines[row.arm][-1] for row in drawn]
    _name_at_the_right(axes, [row.arm for row in drawn], [QUESTIONS[-1]] * len(drawn), last)
    return figure


def cost_over(cost: RowCost, questions: float) -> float:
    """Base forwards a question: the answer's own, and its share of what its references, gradients or training took."""
    return cost.total + (cost.once or 0.0) / questions


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (cost, accuracy) that none cheaper equals."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


@as_svg("Gain over base by the number of layers re-mixed")
def budgets(rows: Sequence[Row]) -> Figure | None:
    """Gain by the number of layers, a line for each selector whose other settings agree; empty if none has three."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        plain = row.setting.model_dump()
        named = {
            k: v
            for k, v in plain.pop("selector", {}).items()
            if k != "n" and (k, v) not in (("layers", "last"), ("layers", "all"))
        }
        lines.setdefault(repr((named, plain)), []).append(row)
    drawn = [sorted(line, key=lambda r: r.layers) for line in lines.values() if len({r.layers for r in line}) > 2]
    if not drawn:
        return None
    figure, (axes,) = panels(2.8)
    axes.axhline(0, color=COLORS["text"], linewidth=0.8)
    for line, mark in zip(drawn, cycle(SHAPES), strict=False):
        points = [(r.layers, r.gain, r.ci_low, r.ci_high) for r in line]
        _with_intervals(axes, points, mark, COLORS[line[0].role], line[0].selector)
    axes.set(xlabel="layers re-mixed", ylabel="points over base")
    axes.legend(frameon=False)
    return figure


@as_svg("Gain and spoiled answers by the share of questions that are re-mixed")
def coverage(rows: Sequence[Coverage]) -> Figure | None:
    """Gain, and answers spoiled, as more questions are re-mixed, strongest signal first; one line per arm."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    if not arms:
        return None
    figure, (axes,) = panels(2.8)
    axes.axhline(0, color=COLORS["text"], linewidth=0.8)
    for arm, mark in zip(arms, cycle(SHAPES), strict=False):
        line = [row for row in rows if row.arm == arm]
        points = [(100 * r.coverage, r.gain, r.ci_low, r.ci_high) for r in line]
        _with_intervals(axes, points, mark, COLORS["method"], arm)
        spoiled = [-r.harm for r in line]
        axes.plot([x for x, *_ in points], spoiled, f"{mark}:", color=COLORS["down"], markersize=3)
    axes.set(xlabel="questions re-mixed, %", ylabel="points: gain (line), spoiled (dots)")
    axes.legend(frameon=False, fontsize=8)
    return figure


@as_svg("Realised change of the right choice's lead by the benefit that was predicted")
def predicted(rows: Sequence[Predicted]) -> Figure | None:
    """Change of the right choice's lead by what was predicted of it, fifths of the questions; one line per arm.

    Signals have scales of their own, so that an arm's fifths stand side by side.
    """
    if not rows:
        return None
    figure, (axes,) = panels(2.8)
    axes.axhline(0, color=COLORS["text"], linewidth=0.8)
    for i, (row, mark) in enumerate(zip(rows, cycle(SHAPES), strict=False)):
        aside = 0.3 * ((i + 0.5) / len(rows) - 0.5)  # so that intervals do not cover each other
        points = [(k + 1 + aside, b.realised, b.ci_low, b.ci_high) for k, b in enumerate(row.bins)]
        _with_intervals(axes, points, mark, COLORS["method"], row.arm)
    _whole_numbers(axes.xaxis)
    axes.set(xlabel="fifth of the questions, least promising first", ylabel="change of the right choice's lead, nats")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _with_intervals(axes: Axes, points: Sequence[tuple[float, ...]], mark: str, color: str, label: str) -> None:
    """A line through points ``(x, value, low, high)``, each with its interval."""
    x, values, low, high = zip(*points, strict=True)
    axes.plot(x, values, f"{mark}-", color=color, markersize=4, label=label)
    axes.vlines(x, low, high, linewidth=0.8, alpha=0.5, color=color)


@as_svg("How often each decoder layer was re-mixed, by kind of question")
def by_kind(chosen: Mapping[str, Sequence[Sequence[int]]], layers: Sequence[int]) -> Figure:
    """How often each decoder layer was re-mixed, by kind of question."""
    rows = {f"{kind} ({len(each)})": each for kind, each in chosen.items()}
    figure, (axes,) = panels(0.8 + LINE * len(rows))
    for y, each in enumerate(rows.values()):
        for x, layer in enumerate(layers):
            axes.add_patch(square(x, y, COLORS["method"], sum(layer in one for one in each) / len(each)))
    cells(axes, list(rows), layers)
    axes.set_xlabel("decoder layer", size=9)
    return figure


@as_svg("Score of each decoder layer")
def scored_layers(
    scores: Mapping[str, Mapping[int, Sequence[float]]], color: Callable[[str, int], str]
) -> Figure | None:
    """What each selector gave the decoder layers: means over questions, and of several their 95 % intervals by t;
    empty if none scored them.

    Args:
        scores: of each question, by selector and layer.
    """
    from scipy.stats import sem, t

    every_layer = sorted({layer for own in scores.values() for layer in own})
    if not every_layer:
        return None
    figure, every = panels(0.5 + 1.4 * len(scores), len(scores))
    for axes, (name, own) in zip(every, scores.items(), strict=True):
        axes.axhline(0, color=COLORS["text"], linewidth=0.8)
        for layer, values in own.items():
            mean, n = sum(values) / len(values), len(values)
            axes.bar(layer, mean, color=color(name, layer), width=0.75)
            if n > 1:
                wide = t.ppf(0.975, n - 1) * sem(values)
                axes.plot([layer, layer], [mean - wide, mean + wide], color=COLORS["text"], linewidth=1)
        axes.set_title(name, loc="left", size=9, pad=2)
        axes.set_ylabel("score")
    every[-1].set_xticks(every_layer[:: -(-len(every_layer) // 16)])
    every[-1].set_xlabel("decoder layer")
    return figure


def pathway_panels(own: NDArray[Any], new: NDArray[Any]) -> list[Panel]:
    """Of routing weights ``[L, E]`` before and after re-mixing, and of their change."""
    from ..pictures import Panel

    return [
        Panel("before: the model's own", own, "routing weight"),
        Panel("after re-mixing", new, "routing weight"),
        Panel("change: after − before", new - own, "change of the weight", signed=True),
    ]


@as_svg("Routing weights by layer and expert: before re-mixing, after it, and their change")
def pathway_maps(own: NDArray[Any], new: NDArray[Any], layers: Sequence[int]) -> Figure:
    """Routing weights ``[L, E]`` of layers before and after re-mixing, and their change."""
    from ..pictures import Ink, layers_by_experts

    ink = Ink(COLORS["text"], COLORS["method"], COLORS["method"], COLORS["down"])
    return layers_by_experts(pathway_panels(own, new), layers, narrow=True, ink=ink)


def _name_at_the_right(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """In a column, each with a line to its point, so that near points keep theirs readable."""
    axes.get_xlim(), axes.get_ylim()  # so that limits are settled
    inside = axes.transAxes.inverted().transform(axes.transData.transform(list(zip(x, y, strict=True))))
    line = {"arrowstyle": "-", "color": COLORS["base"], "linewidth": 0.5, "shrinkB": 4, "relpos": (0, 0.5)}
    places = _apart(inside[:, 1].tolist(), min(0.1, 1 / len(names)))
    for name, place, at in zip(names, places, zip(x, y, strict=True), strict=True):
        axes.annotate(name, at, (1.05, place), textcoords="axes fraction", va="center", size=8, arrowprops=line)


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Heights in 0 to 1, near the wanted ones, in their order, and at least ``gap`` apart."""
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places, floor, ceiling = list(wanted), 0.0, 1.0
    for i in order:
        places[i] = max(places[i], floor)
        floor = places[i] + gap
    for i in reversed(order):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def _others(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.role != "base"]


def _whole_numbers(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True))
