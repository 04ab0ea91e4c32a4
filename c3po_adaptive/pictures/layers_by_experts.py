"""Layers × experts: a map of how much each expert of each layer is used, or of how that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .figures import PLAIN, Ink, Picture, drawable, fill, numbered, picture, scale, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

ROOM = 12
"""Numbers of experts that a panel has room for."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One map.

    Attributes:
        title: above it.
        values: ``[L, E]``.
        label: of the color bar, with the unit.
        signed: whether values are changes, above and below zero; panels of the other kind share one scale.
        unit: behind the numbers of the color bar.
    """

    title: str
    values: NDArray[Any]
    label: str
    signed: bool = False
    unit: str = ""


def layers_by_experts(
    panels: Sequence[Panel],
    layers: Sequence[int],
    *,
    title: str = "",
    marked: Sequence[int] = (),
    narrow: bool = False,
    ink: Ink = PLAIN,
) -> Picture:
    """Maps of one size, one above the other where they are wide, else side by side.

    Args:
        panels: one at least.
        layers: decoder layer of each of the L rows.
        title: above all.
        marked: decoder layers that a star stands beside.
        narrow: one above the other in any case, as for a page.
        ink: the colors.
    """
    import numpy as np

    rows, experts = panels[0].values.shape
    stacked = narrow or experts > 32
    width = 4.6 if narrow else max(2.4, min(0.17 * experts, 7.6)) + 1.1
    height = max(0.17 * rows, 0.8) + 0.75
    shape = (len(panels), 1) if stacked else (1, len(panels))
    with style(ink):
        figure = picture(width * shape[1], height * shape[0] + (0.3 if title else 0))
        every: list[Axes] = list(figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).flat)
        plain = [float(np.abs(p.values).max()) for p in panels if not p.signed]
        for axes, panel in zip(every, panels, strict=True):
            own = float(np.abs(panel.values).max())
            most = (own if panel.signed else max(plain)) or 1.0
            fill(axes, ink.shades(panel.values / most, signed=panel.signed))
            axes.set_title(drawable(panel.title), loc="left")
            axes.set_xticks(numbered(experts, ROOM))
            scale(figure, axes, most, panel.label, ink, signed=panel.signed, unit=panel.unit)
        shown = numbered(rows, 28)
        names = [f"{'* ' if layers[row] in marked else ''}{layers[row]}" for row in shown]
        every[0].set_yticks(shown, names)
        for axes in every if stacked else every[:1]:
            axes.set_ylabel(f"decoder layer{' (* selected)' if marked else ''}")
        for axes in every[-1:] if stacked else every:
            axes.set_xlabel("expert")
        if title:
            figure.suptitle(drawable(title), size=10, x=0.01, ha="left")
    return figure
