"""The speed study's report: one page with its ratios, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plots import curve, ratios


def draw(summary: Mapping[str, Any]) -> str:
    """The page as HTML, self-contained."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    single = [row for row in summary["rows"] if "=" not in row["case"]]
    page: str = environment.get_template("speed.html.j2").render(
        summary=summary,
        plot=ratios(single) if single else "",
        curves=[curve(name, rows) for name, rows in _curves(summary["rows"]).items()],
    )
    return page


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows of curves, which are named ``curve=value``, by curve."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        name, equals, _ = row["case"].partition("=")
        if equals:
            found.setdefault(name, []).append(row)
    return found
