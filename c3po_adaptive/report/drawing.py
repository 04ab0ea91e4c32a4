"""Plots as inline SVG that follows the page: text in its color and font, series in its CSS variables.

Matplotlib knows no CSS, so each color, and the font, is drawn as a marker value that is replaced in the SVG text.
Figures are small (about 430 px), so that a narrow screen shows them at nearly full size.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

P = ParamSpec("P")

COLORS = {
    name: f"#01010{k}"
    for k, name in enumerate(("text", "grid", "base", "control", "oracle", "method", "up", "down"), start=1)
}
"""What stands for each CSS variable."""
LIGHT = {"text": "#1d2126", "grid": "#dfe2e6", "base": "#7b8490", "method": "#1f63b5", "control": "#a8700a"}
DARK = {"text": "#e6e8ea", "grid": "#343a41", "base": "#959fab", "method": "#6ba8f0", "control": "#dca03c"}
LIGHT |= {"oracle": "#7d4bb3"}
DARK |= {"oracle": "#b78ce4"}
"""Of figures that stand alone: those of page.css."""

FONT = "'DejaVu Sans', sans-serif"
"""As matplotlib writes the font of ``STYLE``, which it measures texts by."""
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "c3po",  # same records, same bytes
    "text.parse_math": False,  # a $ in an arm's name is a $
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.color": COLORS["text"],
    "axes.labelcolor": COLORS["text"],
    "xtick.color": COLORS["text"],
    "ytick.color": COLORS["text"],
    "axes.edgecolor": COLORS["grid"],
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "ytick.major.size": 0,
    "xtick.major.size": 0,
}

WIDTH = 4.6
LINE = 0.3
"""Inches: of a figure, and of one arm's line in it."""


def color_of(role: str | None) -> str:
    """Of an arm by what it is: ``bound``, ``control``, or else a method."""
    return COLORS[{"bound": "oracle", "control": "control"}.get(role or "", "method")]


def as_svg(label: str) -> Callable[[Callable[P, Figure | None]], Callable[P, str]]:
    """Makes an SVG, with what it shows in words, of a function that makes a figure; "" where that makes none."""

    def decorate(make: Callable[P, Figure | None]) -> Callable[P, str]:
        @wraps(make)
        def draw(*args: P.args, **named: P.kwargs) -> str:
            with style():
                figure = make(*args, **named)
                return "" if figure is None else svg(figure, label)

        return draw

    return decorate


def style() -> Any:
    """Within it figures are drawn alike."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def panels(height: float, n: int = 1, heights: Sequence[float] | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, one above the other."""
    # Figure rather than pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(n, sharex=True, squeeze=False, height_ratios=heights)[:, 0])


def by_arm(names: Sequence[str], label: str) -> tuple[Figure, Axes]:
    """A figure of a line for each name, the first on top."""
    figure, (axes,) = panels(0.7 + LINE * max(len(names), 1))
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.7))  # first arm on top
    axes.grid(True, axis="x")
    return figure, axes


def cells(axes: Axes, rows: Sequence[str], layers: Sequence[int]) -> None:
    """A table's frame: names of rows, and numbers of layers as many as can stand beside each other."""
    step = -(-len(layers) // 12)
    axes.set(xlim=(-0.5, len(layers) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]], size=8)
    axes.set_yticks(range(len(rows)), rows, size=8)


def square(x: float, y: float, color: str, strength: float) -> Rectangle:
    """What fills a cell."""
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, facecolor=color, alpha=strength, linewidth=0)


def svg(figure: Figure, label: str) -> str:
    """The bare ``<svg>`` element: inside HTML it needs no prologue, metadata or namespaces, and other figures have the
    same ids, so that those stay alone which something in it refers to."""
    buffer, untold = io.StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=untold)
    text = buffer.getvalue()
    root = ElementTree.fromstring(text)
    for element in root.iter():
        element.tag = _bare(element.tag)
        element.attrib = {_bare(name): value for name, value in element.attrib.items()}
        if f"#{element.get('id')}" not in text:
            element.attrib.pop("id", None)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    text = ElementTree.tostring(root, encoding="unicode").replace(FONT, "var(--sans)")
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    return text


def _bare(name: str) -> str:
    """Without its namespace."""
    return name.rpartition("}")[2]


def standalone(svg: str) -> str:
    """A figure as a file of its own, which any page can show: with its namespace, and colors for light and dark."""
    light, dark = (";".join(f"--{name}:{color}" for name, color in part.items()) for part in (LIGHT, DARK))
    style = f"<style>:root{{{light};--sans:sans-serif}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    opening, rest = svg.removeprefix("<svg").split(">", 1)
    return f'<svg xmlns="http://www.w3.org/2000/svg"{opening}>{style}{rest}\n'
