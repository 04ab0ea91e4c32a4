"""The speed study's report: one page with its ratios, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plots import ratios


def draw(summary: Mapping[str, Any]) -> str:
    """The page as HTML, self-contained."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    page: str = environment.get_template("speed.html.j2").render(summary=summary, plot=ratios(summary["rows"]))
    return page
