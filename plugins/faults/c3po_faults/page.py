"""The report of a study of known faults: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from c3po_adaptive.report import COLORS, LINE, WIDTH, color_of, draw, style, svg

from .rows import FaultsSummary, FoundRow


def page(summary: FaultsSummary, made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    names = list(dict.fromkeys(row.dataset for row in summary.rows))
    shown = "all" if "all" in names else names[0]
    rows = [row for row in summary.rows if row.dataset == shown]
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=summary.config.get("model"),
        summary=summary,
        names=names,
        won=won_back(rows),
        layers=found_layers(rows, summary.decoder_layers),
    )


LINES = ("-", "--", ":", "-.")


def won_back(rows: Sequence[FoundRow]) -> str:
    """Share of the lost loss that each arm wins back, by dose; a panel for each fault, with its number of layers.

    Args:
        rows: of one data set.
    """
    from matplotlib.figure import Figure

    faults = list(dict.fromkeys(row.fault for row in rows))
    arms = list(dict.fromkeys((row.selector, row.optimizer, row.role) for row in rows))
    with style():
        figure = Figure(figsize=(max(WIDTH, 2.2 * len(faults)), 3.4 + 0.16 * len(arms)), layout="constrained")
        every = figure.subplots(1, len(faults), sharey=True, squeeze=False)[0]
        for axes, fault in zip(every, faults, strict=True):
            lines = cycle(LINES)
            for selector, optimizer, role in arms:
                own = [r for r in rows if (r.fault, r.selector, r.optimizer) == (fault, selector, optimizer)]
                known = [(r.dose, r.loss_won_back) for r in own if r.loss_won_back]
                x, color = [dose for dose, _ in known], color_of(role)
                axes.plot(x, [100 * won.mean for _, won in known], "o" + next(lines), color=color, markersize=4,
                          label=f"{selector}, {optimizer}")  # fmt: skip
                low, high = [100 * won.ci_low for _, won in known], [100 * won.ci_high for _, won in known]
                axes.vlines(x, low, high, color=color, alpha=0.5)
            layers = next(r.layers for r in rows if r.fault == fault)
            axes.set_title(f"{fault}: {len(layers)} layers", loc="left", size=9)
            axes.axhline(0, color=COLORS["text"], linewidth=0.8)
            axes.axhline(100, color=COLORS["text"], linewidth=0.8, linestyle=":")
            axes.set_xlabel("dose")
            axes.grid(True)
        every[0].set_ylabel("of the lost loss won back, %")
        handles, labels = every[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, fontsize=7, loc="outside lower left", ncols=2)
        return svg(figure, "Share of the lost loss that each arm wins back, by dose of each fault, with 95 % intervals")


def found_layers(rows: Sequence[FoundRow], layers: Sequence[int]) -> str:
    """How often each layer was re-mixed, one line an arm and dose; a dot where the fault is.

    Args:
        rows: of one data set.
        layers: decoder layers that are MoE layers.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with style():
        figure = Figure(figsize=(2 * WIDTH, 0.9 + 0.8 * LINE * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            color = color_of(row.role)
            for x, share in enumerate(row.chosen):
                axes.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, facecolor=color, alpha=share, linewidth=0))
                if row.dose and layers[x] in row.layers:
                    axes.plot(x, y, ".", color=COLORS["text"], markersize=3)
        names = [f"{r.fault} × {r.dose:g}: {r.selector}, {r.optimizer}" for r in rows]
        axes.set_xlim(-0.5, len(layers) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(layers)), [str(layer) for layer in layers], size=8)
        axes.set_yticks(range(len(rows)), names, size=7)
        axes.set_xlabel("decoder layer; the strongest color is every question")
        return svg(figure, "Share of questions that each layer was re-mixed for, beside the layers that were broken")
