"""The page of one explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plots import pathway_change, scored_layers

if TYPE_CHECKING:
    from ..explain import Explanation

MOST = 16  # neighbours on the page


def draw(found: Explanation) -> str:
    """The page as HTML, self-contained."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    environment.filters["zip"] = zip
    changes = {layer: found.change(layer).tolist() for layer in found.layers}
    page: str = environment.get_template("explanation.html.j2").render(
        found=found,
        most=MOST,
        scores=scored_layers(found.layer_scores, found.layers) if found.layer_scores else "",
        change=pathway_change(changes) if changes else "",
    )
    return page
