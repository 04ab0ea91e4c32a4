"""The speed study's report: one page with its ratios, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from c3po_adaptive.report import drawing
from c3po_adaptive.report.page import draw

from .rows import SpeedSummary, TimedCase


def page(summary: SpeedSummary, made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=", ".join(dict.fromkeys(row.model for row in summary.rows)),
        summary=summary,
        plot=ratios(summary.single) if summary.single else "",
        curves=[curve(name, rows) for name, rows in _curves(summary.rows).items()],
    )


def picture(summary: SpeedSummary) -> str:
    """The ratios of all cases as an SVG file."""
    return drawing.standalone(ratios(summary.single))


def _curves(rows: Sequence[TimedCase]) -> dict[str, list[TimedCase]]:
    """Rows of curves, by curve."""
    found: dict[str, list[TimedCase]] = {}
    for row in rows:
        name, equals, _ = row.case.partition("=")
        if equals:
            found.setdefault(name, []).append(row)
    return found


def ratios(rows: Sequence[TimedCase]) -> str:
    """Wall clock (a line from least to most, a dot at the median) and FLOPs (a tick) of each case."""
    with drawing.style():
        figure, axes = drawing.by_arm([row.case for row in rows], "over a plain answer: ● wall clock, │ FLOPs")
        axes.set_xscale("log", base=2)
        axes.axvline(1, color=drawing.COLORS["text"], linewidth=0.8)
        for y, row in enumerate(rows):
            axes.plot([row.ratio_min, row.ratio_max], [y, y], color=drawing.COLORS["method"], linewidth=2)
            axes.plot(row.ratio, y, "o", color=drawing.COLORS["method"], markersize=6)
            axes.plot(row.flops_ratio, y, "|", color=drawing.COLORS["base"], markersize=12, markeredgewidth=2)
            label = f"{row.ratio:.2f}"
            axes.annotate(label, (1.02, y), xycoords=("axes fraction", "data"), va="center", size=8)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        return drawing.svg(figure, "Wall clock and FLOPs of each case over those of a plain answer")


def curve(name: str, rows: Sequence[TimedCase]) -> str:
    """Wall clock (least to most, median) and FLOPs over those of a plain answer, as one setting changes."""
    with drawing.style():
        figure, (axes,) = drawing.panels(2.6)
        places = range(len(rows))
        for label, values, color, mark in (
            ("wall clock", [row.ratio for row in rows], "method", "o-"),
            ("FLOPs", [row.flops_ratio for row in rows], "base", "|--"),
        ):
            axes.plot(places, values, mark, color=drawing.COLORS[color], label=label, markersize=6)
        axes.vlines(places, [r.ratio_min for r in rows], [r.ratio_max for r in rows], color=drawing.COLORS["method"])
        axes.set_xticks(places, [row.case.partition("=")[2] for row in rows])
        axes.set_xlabel(name)
        axes.set_ylabel("over a plain answer")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        return drawing.svg(figure, f"Wall clock and FLOPs over those of a plain answer, by {name}")
