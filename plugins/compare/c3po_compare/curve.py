"""The picture of what is won along an x, such as references a kind."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from c3po_adaptive.report import COLORS, panels, style, svg

from .records import Point


def curves(points: Sequence[Point], x: str, unit: str, label: str, *, log: bool = False) -> str:
    """What is won along an x, a line each, with its intervals."""
    lines = list(dict.fromkeys(point.line for point in points))
    with style():
        figure, (axes,) = panels(2.8)
        axes.axhline(0, color=COLORS["text"], linewidth=0.8)
        if log:
            axes.set_xscale("log")
        every = sorted({point.x for point in points})
        aside = 0.01 * (every[-1] - every[0])  # so that intervals do not cover each other
        roles = cycle(("method", "control", "oracle", "base"))
        for k, (line, mark, role) in enumerate(zip(lines, cycle("osD^v<>"), roles, strict=False)):
            own, color = [point for point in points if point.line == line], COLORS[role]
            at = [point.x * (1 + 0.03 * k) if log else point.x + aside * k for point in own]
            axes.plot(at, [p.difference for p in own], f"{mark}-", color=color, markersize=4, label=line)
            axes.vlines(at, [p.ci_low for p in own], [p.ci_high for p in own], linewidth=0.8, alpha=0.5, color=color)
        axes.set_xticks(every, [f"{tick:g}" for tick in every])
        axes.minorticks_off()
        axes.set_xlabel(x)
        axes.set_ylabel(unit)
        figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=3)
        return svg(figure, label)
