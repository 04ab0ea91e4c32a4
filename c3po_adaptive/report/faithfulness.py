"""The report of a study of faithfulness: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plots import faithful, heat


def draw(summary: Mapping[str, Any]) -> str:
    """The page as HTML, self-contained."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    names = list(dict.fromkeys(row["dataset"] for row in summary["rows"]))
    shown = "all" if "all" in names else names[0]
    rows = [row for row in summary["rows"] if row["dataset"] == shown]
    page: str = environment.get_template("faithfulness.html.j2").render(
        summary=summary,
        shown=shown,
        names=names,
        truths=summary["truths"],
        correlations=faithful(rows, summary["truths"]),
        heat=heat(summary["layers"], summary["decoder_layers"]),
    )
    return page
