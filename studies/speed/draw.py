"""The speed study's report: one page with its ratios, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from c3po_adaptive.report.page import draw
from c3po_adaptive.report.plots import curve, ratios, standalone


def page(summary: Mapping[str, Any], made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=", ".join(dict.fromkeys(row["model"] for row in summary["rows"])),
        summary=summary,
        plot=ratios(_single(summary)) if _single(summary) else "",
        curves=[curve(name, rows) for name, rows in _curves(summary["rows"]).items()],
    )


def picture(summary: Mapping[str, Any]) -> str:
    """The ratios of all cases as an SVG file."""
    return standalone(ratios(_single(summary)))


def _single(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in summary["rows"] if "=" not in row["case"]]


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of curves, which are named ``curve=value``, by curve."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name, equals, _ = row["case"].partition("=")
        if equals:
            found.setdefault(name, []).append(row)
    return found
