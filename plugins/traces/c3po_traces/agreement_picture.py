"""The picture of two sets of routes: what is the same, by layer, by token, and by how near to a tie the router was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from c3po_adaptive.pictures import Ink, Picture

from .agreement import Agreement, Part

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def agreement_picture(found: Agreement) -> Picture:
    """A panel each for layers, tokens and, where it is known, router margins; bars are shares of places where both use
    the same set of experts."""
    panels: list[tuple[str, Sequence[Part]]] = [("decoder layer", found.by_layer), ("token's place", found.by_token)]
    if found.by_margin:
        panels.append(("router's margin", found.by_margin))
    figure = Picture(figsize=(3.2 * len(panels), 2.8), layout="constrained")
    for place, (what, parts) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        _bars(axes, parts)
        axes.set_xlabel(what)
        if place == 1:
            axes.set_ylabel("same set of experts, %")
    figure.suptitle(f"{found.names[0] or 'one'} and {found.names[1] or 'other'}: {found.texts} texts", fontsize=9)
    return figure


def _bars(axes: Axes, parts: Sequence[Part]) -> None:
    axes.bar(range(len(parts)), [100 * part.same for part in parts], color=Ink().weight, width=0.8)
    step = -(-len(parts) // 8)
    axes.set_xticks(range(0, len(parts), step), [part.name for part in parts[::step]], rotation=30)
    axes.set_ylim(0, 100)
