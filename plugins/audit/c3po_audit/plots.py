"""Pictures of an audit: changes with their intervals, and layers × measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c3po_adaptive.report import COLORS, LINE, WIDTH, cells, panels, square, style, svg


@dataclass(frozen=True)
class Measured:
    """A measure of each layer.

    Attributes:
        values: by layer, above zero is worse; None: not known.
        shown: whether each is shown to differ from zero, which a dot says.
    """

    name: str
    unit: str
    values: Sequence[float | None]
    shown: Sequence[bool]


def paired_effects(effects: Sequence[tuple[str, Mapping[str, float], Mapping[str, float]]]) -> str:
    """Changes of the loss and of accuracy, side by side, each with its interval.

    Args:
        effects: name, and ``value``, ``low`` and ``high`` in nats and in points.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(1.4 * WIDTH, 0.8 + LINE * max(len(effects), 1)), layout="constrained")
        both = figure.subplots(1, 2, sharey=True)
        both[0].set_yticks(range(len(effects)), [name for name, _, _ in effects], size=8)
        both[0].set_ylim(len(effects) - 0.4, -0.6)
        for axes, place, label, better in zip(both, (1, 2), ("loss, nats", "accuracy, points"), (-1, 1), strict=True):
            axes.grid(True, axis="x")
            axes.axvline(0, color=COLORS["text"], linewidth=0.8)
            axes.set_xlabel(label)
            for y, effect in enumerate(effects):
                found: Any = effect[place]
                color = COLORS["up"] if better * found["value"] > 0 else COLORS["down"]
                axes.barh(y, found["value"], height=0.6, color=color, alpha=0.6)
                axes.plot([found["low"], found["high"]], [y, y], color=COLORS["text"], linewidth=1)
        return svg(figure, "Change of loss and accuracy by other routing, with 95 % intervals")


def layers_by_measure(rows: Sequence[Measured], layers: Sequence[int]) -> str:
    """Measures of each decoder layer, each on a scale of its own; a dash where there is none.

    Args:
        rows: what is known of them.
        layers: those of the model.
    """
    with style():
        figure, (axes,) = panels(0.8 + LINE * len(rows))
        names = []
        for y, row in enumerate(rows):
            most = max((abs(v) for v in row.values if v is not None), default=0) or 1
            names.append(f"{row.name} (to {most:.2g}{' ' * bool(row.unit)}{row.unit})")
            for x, (value, shown) in enumerate(zip(row.values, row.shown, strict=True)):
                if value is None:
                    axes.plot(x, y, "_", color=COLORS["grid"], markersize=5)
                    continue
                axes.add_patch(square(x, y, COLORS["down"] if value > 0 else COLORS["up"], abs(value) / most))
                if shown:
                    axes.plot(x, y, ".", color=COLORS["text"], markersize=3)
        cells(axes, names, layers)
        axes.set_xlabel("decoder layer", size=9)
        return svg(figure, "Measures of each decoder layer: loss without its routing, use of its experts")
