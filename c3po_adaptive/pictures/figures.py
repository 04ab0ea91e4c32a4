"""Figures: their colors, how they are shown in a notebook, and their files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ..errors import DataError, SettingError, disk_says
from ..storage.files import atomic_file, check_own

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

MARK = "c3po_adaptive"
"""What the files say they are made by, so that no other picture is replaced."""
_NAMED = {".png": "Software", ".svg": "Creator"}
"""Where each format says it."""
DPI = 150


class Picture(Figure):
    """A figure of matplotlib without a window or global state; a notebook shows it, ``savefig`` writes it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()


@dataclass(frozen=True)
class Ink:
    """Colors that tell apart for color-blind readers, and in grey by their strength.

    Attributes:
        text: of words and frames.
        weight: of what is never negative.
        up: of what is above zero.
        down: of what is below.
    """

    text: str = "#1d2126"
    weight: str = "#17508f"
    up: str = "#17508f"
    down: str = "#b5461f"

    def shades(self, strength: NDArray[Any], *, signed: bool) -> NDArray[Any]:
        """``[…, 4]`` the color of each strength from -1 to 1: the nearer to zero, the nearer to the background."""
        import numpy as np
        from matplotlib.colors import to_rgb

        colors = [self.down, self.up] if signed else [self.weight, self.weight]
        below, above = (np.array(to_rgb(color)) for color in colors)
        plain = np.where((np.asarray(strength) < 0)[..., None], below, above)
        return np.concatenate([plain, np.abs(strength).clip(0, 1)[..., None]], -1)


PLAIN = Ink()
"""On white."""


def style(ink: Ink = PLAIN) -> Any:
    """Within it figures are drawn alike."""
    from matplotlib import rc_context

    return rc_context(
        {
            "text.parse_math": False,  # a $ in a token is a $
            "svg.fonttype": "none",
            "svg.hashsalt": "c3po",  # same values, same bytes
            "font.size": 9,
            "axes.titlesize": 9,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "text.color": ink.text,
            "axes.labelcolor": ink.text,
            "xtick.color": ink.text,
            "ytick.color": ink.text,
            "axes.edgecolor": "#9aa2ab",
            "axes.linewidth": 0.6,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
        }
    )


def picture(width: float, height: float) -> Picture:
    """An empty one, so many inches wide and high."""
    return Picture(figsize=(width, height), layout="constrained")


def fill(axes: Axes, shades: NDArray[Any]) -> None:
    """Squares of a table of colors ``[rows, columns, 4]``, the first row on top; what cannot be seen is left out."""
    from matplotlib.collections import PolyCollection

    rows, columns = shades[..., 3].nonzero()
    corners = [(-0.47, -0.47), (0.47, -0.47), (0.47, 0.47), (-0.47, 0.47)]
    squares = [[(x + dx, y + dy) for dx, dy in corners] for y, x in zip(rows.tolist(), columns.tolist(), strict=True)]
    axes.add_collection(PolyCollection(squares, facecolors=shades[rows, columns], linewidths=0))
    axes.set_xlim(-0.5, shades.shape[1] - 0.5)
    axes.set_ylim(shades.shape[0] - 0.5, -0.5)


def scale(
    figure: Figure, axes: Axes | Sequence[Axes], most: float, label: str, ink: Ink, *, signed: bool, unit: str = ""
) -> None:
    """The color bar of panels whose strongest color means ``most``."""
    import numpy as np
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.ticker import MaxNLocator

    steps = np.linspace(-1 if signed else 0, 1, 33)
    colors = ListedColormap(ink.shades(steps, signed=signed).tolist())
    drawn = ScalarMappable(Normalize(-most if signed else 0, most), colors)
    beside: Any = axes  # matplotlib takes one, or several that share it
    bar = figure.colorbar(drawn, ax=beside, fraction=0.05, pad=0.02, aspect=16)
    bar.set_label(label, size=8)
    bar.outline.set_linewidth(0.4)
    round_ones = MaxNLocator(4 if signed else 3, steps=[1, 2, 5, 10]).tick_values(-most if signed else 0, most)
    ticks = [float(x) + 0.0 for x in round_ones if abs(x) <= most * (1 + 1e-9)]
    bar.set_ticks(
        ticks, labels=[f"{x:+.3g}{unit}".replace("-", "−") if signed and x else f"{x:.3g}{unit}" for x in ticks]
    )


def numbered(count: int, room: int) -> list[int]:
    """Which of so many places have a label, of which there is room for so many: every first, second, fourth …"""
    step = 1
    while count > room * step:
        step *= 2
    return list(range(0, count, step))


@cache
def _known() -> Any:
    """The usual font's characters."""
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont("DejaVu Sans")).get_charmap()


def drawable(text: str) -> str:
    """A text as the font can draw it: other characters are written as their numbers."""
    return "".join(c if ord(c) in _known() and c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def check_picture(path: Path | str) -> None:
    """Refuse to write a picture where something else lies, or in a format that is not written.

    Raises:
        SettingError: a name that ends in none of them.
        DataError: with where.
    """
    if Path(path).suffix.lower() not in _NAMED:
        raise SettingError(f"Expected a picture's name to end in {' or '.join(_NAMED)}, got {str(path)!r}; name it so.")
    check_own(path, _is_ours, "a picture")


def save_picture(figure: Figure, path: Path | str) -> Path:
    """Write a figure as SVG or PNG, whole or not at all; an older picture of ours is replaced.

    Raises:
        SettingError: a name that ends in neither.
        DataError: the disk refuses it, or something else lies there.
    """
    check_picture(path)
    kind = Path(path).suffix.lower()
    said: dict[str, Any] = {_NAMED[kind]: MARK} | ({"Date": None} if kind == ".svg" else {})
    try:
        with atomic_file(path) as writing, style():
            figure.savefig(writing, format=kind[1:], dpi=DPI, metadata=said)
    except OSError as error:
        raise DataError(
            f"Expected to write {path}, got: {disk_says(error)}; name a folder you may write to."
        ) from error
    return Path(path)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return MARK.encode() in file.read(4096)
