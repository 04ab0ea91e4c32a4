"""The picture of an attribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import floating
    from numpy.typing import NDArray

UP, DOWN = "#1f63b5", "#b5461f"


def drawn(values: NDArray[floating], layers: tuple[int, ...], title: str, *, by_expert: bool) -> Figure:
    """Bars for layers; beside them experts as a heat map, blue where they raise f, red where they lower it.

    Args:
        values: ``[L, E]``.
        layers: decoder layer index of each of the L rows.
        title: above it.
        by_expert: whether there is something to say of experts.
    """
    from matplotlib import pyplot

    rows, sums = range(len(layers)), values.sum(1).tolist()
    with pyplot.rc_context({"text.parse_math": False}):
        width, ratios = (8.0, [1, 2]) if by_expert else (3.2, [1])
        size = (width, 1.2 + 0.22 * len(rows))
        figure, every = pyplot.subplots(
            1, len(ratios), figsize=size, sharey=True, squeeze=False, layout="constrained", width_ratios=ratios
        )
        bars = every[0, 0]
        bars.barh(rows, sums, color=[UP if value >= 0 else DOWN for value in sums])
        bars.axvline(0, color="black", linewidth=0.8)
        bars.set_yticks(rows, [str(layer) for layer in layers])
        bars.set(xlabel="attribution", ylabel="decoder layer")
        if by_expert:
            most = float(abs(values).max()) or 1.0
            shown = every[0, 1].imshow(values, aspect="auto", cmap="RdBu", vmin=-most, vmax=most, origin="lower")
            every[0, 1].set_xlabel("expert")
            figure.colorbar(shown, ax=every[0, 1])
        figure.suptitle(title, fontsize=10)
    return figure
