"""The picture of an attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from .figures import PLAIN, Picture, drawable, fill, numbered, picture, scale, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import Tensor

GREY = "#7b8490"
COLORS = {1: PLAIN.up, -1: PLAIN.down, 0: GREY}
"""Of what raises f, of what lowers it, and of what may do either."""
ROOM = 10
"""Numbers of experts that the map has room for."""


def attributed_layers(
    values: Tensor, rows: Sequence[Mapping[str, Any]], *, title: str, unit: str, by_expert: bool
) -> Picture:
    """Bars for layers, with intervals over samples: share of the strength, signed sum; beside them experts as a map.

    Args:
        values: ``[B, L, E]``.
        rows: of each of the L layers, in their order, what ``attribution.Attributed.table`` says of it.
        title: above all.
        unit: of attributions.
        by_expert: whether there is something to say of experts.
    """
    from matplotlib.patches import Patch

    samples, L, E = values.shape
    widths = [1.0, 1.0, max(1.3, min(E / 14, 3.0))] if by_expert else [1.0, 1.0]
    with style():
        figure = picture(2.6 * sum(widths) + 0.8, 1.2 + 0.2 * L)
        every: list[Axes] = list(figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0])
        share = [100 * row["share"] for row in rows]
        signed = [row["sum"] for row in rows]
        colors = [COLORS[_decided(row["sum"], row["sum_interval"])] for row in rows]
        _bars(every[0], share, _ends(rows, "share_interval", 100), [GREY] * L)
        _bars(every[1], signed, _ends(rows, "sum_interval", 1), colors)
        every[0].set(xlabel="share of Σ |attribution|, %", ylabel="decoder layer")
        every[0].set_title("strength, unsigned", loc="left")
        every[1].set_xlabel(f"Σ attribution, {unit}")
        every[1].set_title("signed sum", loc="left")
        every[1].axvline(0, color=PLAIN.text, linewidth=0.8)
        if by_expert:
            _map(figure, every[2], values, unit)
        every[0].set_yticks(range(L), [str(row["layer"]) for row in rows])
        every[0].set_ylim(L - 0.5, -0.5)
        names = {1: "raises f", -1: "lowers f", 0: "either: the interval holds zero"}
        shown = [Patch(color=COLORS[sign], label=names[sign]) for sign in ((1, -1) if samples == 1 else (1, -1, 0))]
        figure.legend(handles=shown, loc="outside lower center", ncols=len(shown), fontsize=8, frameon=False)
        over = "" if samples == 1 else f"\nmeans over {samples} samples; lines are 95 % intervals over them"
        figure.suptitle(drawable(title) + over, size=9, x=0.01, ha="left")
    return figure


def _bars(axes: Axes, values: list[float], ends: list[tuple[float, float] | None], colors: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.barh(range(len(values)), values, height=0.7, color=colors, alpha=0.75)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for y, pair in enumerate(ends):
        if pair is not None:
            axes.plot(pair, [y, y], color=PLAIN.text, linewidth=1.2, solid_capstyle="butt")
    axes.grid(True, axis="x", color="#dfe2e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _ends(rows: Sequence[Mapping[str, Any]], name: str, factor: float) -> list[tuple[float, float] | None]:
    return [row[name] and (factor * row[name][0], factor * row[name][1]) for row in rows]


def _map(figure: Picture, axes: Axes, values: Tensor, unit: str) -> None:
    """Experts by mean |attribution|: of one sample in the color of its sign, of several where they agree on one."""
    strength = values.abs().mean(0)
    most = strength.max().item() or 1.0
    sign = _signs(values)
    fill(axes, _shades((strength / most).cpu().numpy(), sign.cpu().numpy()))
    axes.set_xticks(numbered(strength.shape[1], ROOM))
    axes.set_xlabel("expert")
    axes.set_title("experts", loc="left")
    scale(figure, axes, most, f"mean |attribution|, {unit}", replace(PLAIN, weight=GREY), signed=False)


def _signs(values: Tensor) -> Tensor:
    """``[L, E]`` 1, -1, or 0 where the 95 % interval of the mean over samples holds zero."""
    from scipy.stats import t

    mean, n = values.mean(0), len(values)
    if n < 2:
        return mean.sign()
    wide = float(t.ppf(0.975, n - 1)) * values.std(0) / n**0.5
    return torch.where(mean.abs() > wide, mean.sign(), 0)


def _decided(value: float, interval: tuple[float, float] | None) -> int:
    """The sign of a sum: 1, -1, or 0 where its interval holds zero."""
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return 0
    return (value > 0) - (value < 0)


def _shades(strength: NDArray[Any], sign: NDArray[Any]) -> NDArray[Any]:
    import numpy as np
    from matplotlib.colors import to_rgb

    plain = np.zeros((*strength.shape, 3))
    for value, color in COLORS.items():
        plain[sign == value] = to_rgb(color)
    return np.concatenate([plain, strength[..., None]], -1)
