"""Tokens × layers: which expert each token uses most, and where another routing moves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .figures import PLAIN, Ink, Picture, drawable, fill, numbered, picture, scale, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

LETTER = 0.085
"""Inches of a title's letter, on average."""
LONGEST = 18
"""Characters of a token that are shown."""
WIDE = 20
"""Layers, up to which panels stand side by side."""
DARK = 0.6
"""Strength of a color from which on words on it are white."""


@dataclass(frozen=True, eq=False)
class View:
    """How one routing treats T tokens in L layers.

    Attributes:
        title: above it.
        experts: ``[T, L]`` the expert that each token uses most, -1 where nothing was recorded.
        strength: ``[T, L]`` how strong each place is colored, 0 to 1.
        label: what that means, as a share; "": nothing, so that there is no color bar.
        changed: whether it says what changed, in the color of changes.
    """

    title: str
    experts: NDArray[Any]
    strength: NDArray[Any]
    label: str
    changed: bool = False


def tokens_by_layers(
    views: Sequence[View], pieces: Sequence[str], layers: Sequence[int], *, title: str = "", ink: Ink = PLAIN
) -> Picture:
    """A panel for each routing of the same tokens, with the number of the leading expert in each place.

    Args:
        views: one at least.
        pieces: text of each of the T tokens, or its number.
        layers: decoder layer of each of the L columns.
        title: above all.
        ink: the colors.
    """
    T, L = views[0].experts.shape
    beside = L <= WIDE
    width, height = max(0.27 * L, 1.5) + 1.2, max(0.2 * T, 1.4) + 0.65
    shape = (1, len(views)) if beside else (len(views), 1)
    step, across = numbered(L, 24), width * shape[1] + 0.6
    lines = wrap(drawable(title), int(across / LETTER))
    with style(ink):
        figure = picture(across, height * shape[0] + (0.13 if lines else 0) + 0.17 * len(lines))
        every: list[Axes] = list(figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).flat)
        for axes, view in zip(every, views, strict=True):
            _draw(figure, axes, view, ink)
        every[0].set_xticks(step, [str(layers[i]) for i in step])
        every[0].set_yticks(range(T), [_piece(piece) for piece in pieces])
        for axes in every if beside else every[-1:]:
            axes.set_xlabel("decoder layer")
        for axes in every[:1] if beside else every:
            axes.set_ylabel("token, in reading order ↓")
        if lines:
            figure.suptitle("\n".join(lines), size=10, x=0.01, ha="left")
    return figure


def _draw(figure: Picture, axes: Axes, view: View, ink: Ink) -> None:
    import numpy as np

    own = replace(ink, weight=ink.down) if view.changed else ink
    there: NDArray[Any] = view.experts >= 0
    fill(axes, own.shades(view.strength, signed=False))
    axes.set_title(drawable(view.title), loc="left")
    for t, row in np.argwhere(there).tolist():
        color = "white" if view.strength[t, row] > DARK else ink.text
        axes.text(row, t, str(view.experts[t, row]), ha="center", va="center_baseline", size=6.5, color=color)
    for t in np.flatnonzero(~there.any(1)).tolist():
        axes.text(
            (there.shape[1] - 1) / 2, t, "not recorded", ha="center", va="center_baseline", size=6.5, color="grey"
        )
    if view.label:
        scale(figure, axes, 100.0, view.label, own, signed=False, unit=" %")


def _piece(text: str) -> str:
    """A token as people can tell it: a blank in front of a word is left out, others are seen."""
    shown = text.removeprefix(" ").replace("\n", "⏎").replace(" ", "␣") if text != " " else "␣"
    shown = drawable(shown)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"
