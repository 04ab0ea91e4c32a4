"""The report of a study of faithfulness: one page, to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from c3po_adaptive.report import COLORS, LINE, WIDTH, cells, color_of, draw, panels, square, style, svg

from .places import LayerPlaces
from .summary import FaithfulnessSummary, KindEffects, ScoreRow


def page(summary: FaithfulnessSummary, made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    names = list(dict.fromkeys(row.dataset for row in summary.rows))
    shown = "all" if "all" in names else names[0]
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=summary.config.get("model"),
        summary=summary,
        names=names,
        truths=summary.truths,
        correlations=faithful([row for row in summary.rows if row.dataset == shown], summary.truths),
        heat=heat(summary.layers, summary.decoder_layers),
        places=where([row for row in summary.places if row.dataset == shown], summary.decoder_layers, summary.marked),
    )


def faithful(rows: Sequence[ScoreRow], truths: Sequence[str]) -> str:
    """Rank correlation of each score with each truth, one column of dots and intervals per truth."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(2 * WIDTH, 0.9 + LINE * len(rows)), layout="constrained")
        every = figure.subplots(1, len(truths), sharey=True, squeeze=False)[0]
        for axes, truth in zip(every, truths, strict=True):
            axes.set_yticks(range(len(rows)), [row.score for row in rows])
            axes.set_ylim(len(rows) - 0.4, -0.7)
            axes.grid(True, axis="x")
            axes.axvline(0, color=COLORS["text"], linewidth=0.8)
            axes.set_title(truth.replace(", ", ",\n"), loc="left", size=9)
            for y, row in enumerate(rows):
                found = row.correlation(truth)
                color = color_of(row.role)
                axes.plot([found.ci_low, found.ci_high], [y, y], color=color, linewidth=2)
                axes.plot(found.mean, y, "o", color=color, markersize=5)
        return svg(figure, "Rank correlation of each score of layers with what layers really do")


def heat(rows: Sequence[KindEffects], layers: Sequence[int]) -> str:
    """Single-layer effects by kind of question; dots where there is an interval and it excludes zero."""
    with style():
        figure, (axes,) = panels(0.8 + LINE * len(rows))
        most = max((abs(x) for row in rows for x in row.effect), default=0) or 1
        for y, row in enumerate(rows):
            intervals = row.ci or [(0.0, 0.0)] * len(row.effect)
            for x, (effect, (low, high)) in enumerate(zip(row.effect, intervals, strict=True)):
                color = COLORS["up"] if effect > 0 else COLORS["down"]
                axes.add_patch(square(x, y, color, abs(effect) / most))
                if low > 0 or high < 0:
                    axes.plot(x, y, ".", color=COLORS["text"], markersize=3)
        names = [row.dataset if row.kind in ("", row.dataset) else row.kind for row in rows]
        cells(axes, [f"{name} ({row.n})" for name, row in zip(names, rows, strict=True)], layers)
        axes.set_xlabel(f"decoder layer; the strongest color is {most:.3f} nats", size=9)
        return svg(figure, "Single-layer effects of re-mixing, by kind of question")


def where(rows: Sequence[LayerPlaces], layers: Sequence[int], marked: Sequence[int]) -> str:
    """Where each score and truth puts each layer, mean over questions."""
    with style():
        figure, (axes,) = panels(0.8 + LINE * len(rows))
        draw_places(axes, rows, layers, marked)
        axes.set_xlabel("decoder layer" + ("; those that are marked are framed" if marked else ""), size=9)
        return svg(figure, "Where each score puts each layer")


def draw_places(axes: Any, rows: Sequence[LayerPlaces], layers: Sequence[int], marked: Sequence[int]) -> None:
    """A row for each score or truth, a column for each layer: the higher, the stronger; marked ones are framed."""
    from matplotlib.patches import Rectangle

    for y, row in enumerate(rows):
        for x, place in enumerate(row.places):
            axes.add_patch(square(x, y, color_of(row.role) if row.role else COLORS["text"], place))
    cells(axes, [row.of for row in rows], layers)
    for first, last in _runs([layer in marked for layer in layers]):
        size = last - first + 1, len(rows)
        axes.add_patch(Rectangle((first - 0.5, -0.5), *size, fill=False, edgecolor=COLORS["text"], linewidth=1.2))


def _runs(marked: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and last place of each run of True."""
    for value, run in groupby(enumerate(marked), key=lambda pair: pair[1]):
        inside = [place for place, _ in run]
        if value:
            yield inside[0], inside[-1]
