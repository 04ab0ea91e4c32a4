"""Pictures of the results: gain by data set, predicted beside realised benefit, what differs between questions, what
policies learned and cost.

python studies/mixture/draw.py studies/mixture/results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from c3po_adaptive.analysis.gain_by_kind import KindRow
from c3po_adaptive.records.summary import BoardSummary, Row, Summary
from c3po_adaptive.report import plots
from c3po_adaptive.report.leader_board_page import picture
from c3po_adaptive.storage.files import write_text

SHOWN = {"nearest 300": "method", "constant": "base"}
PARTS = {"constant": "the same for all", "between": "by data set", "within": "by question"}


def main(folder: str) -> None:
    """Reads results there, and writes pictures beside them."""
    place = Path(folder)
    why, curves = (json.loads((place / f"{name}.json").read_text(encoding="utf-8")) for name in ("why", "curves"))
    board = BoardSummary.model_validate_json((place / "summary.json").read_text(encoding="utf-8"))
    policies = Summary.model_validate_json((place / "policies.json").read_text(encoding="utf-8"))
    pictures = {
        "gain_by_data_set": plots.gains_by_kind(_by_data_set(board.rows), SHOWN),
        "predicted_and_realised": plots.predicted([row for row in board.predicted if row.dataset == "all"]),
        "what_differs": _what_differs(why["arms"]),
        "learning": _learning(curves),
    }
    for name, svg in pictures.items():
        write_text(place / f"{name}.svg", plots.standalone(svg))
    write_text(place / "policies.svg", picture(policies))


def _by_data_set(rows: Sequence[Row]) -> list[KindRow]:
    """The arms that are shown, side by side on each data set, their mean last."""
    names = sorted(dict.fromkeys(row.dataset for row in rows), key=lambda name: name == "all")
    kept = {(row.dataset, row.arm): row for row in rows}
    shown = [kept[name, arm] for name in names for arm in SHOWN if (name, arm) in kept]
    return [
        KindRow(r.dataset, None, r.arm, r.n, r.accuracy, r.base_accuracy, r.chance, r.gain, r.ci_low, r.ci_high)
        for r in shown
    ]


def _what_differs(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """Shares of the mean squared length of Δω, a bar an arm."""
    with plots.style():
        figure = Figure(figsize=(plots.WIDTH, 0.9 + plots.LINE * len(arms)), layout="constrained")
        axes = figure.subplots()
        left = [0.0] * len(arms)
        for (part, label), strength in zip(PARTS.items(), (0.3, 0.6, 1.0), strict=True):
            width = [arm[part] for arm in arms.values()]
            axes.barh(range(len(arms)), width, left=left, color=plots.COLORS["method"], alpha=strength, label=label)
            left = [a + b for a, b in zip(left, width, strict=True)]
        axes.set_yticks(range(len(arms)), arms)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the mean squared length of Δω")
        figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=3)
        return plots.svg(figure, "What of each arm's change of pathways differs between and within data sets")


def _learning(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """Reward (less price) and entropy by epoch, a line a policy."""
    with plots.style():
        figure = Figure(figsize=(plots.WIDTH, 4.2), layout="constrained")
        for axes, part in zip(figure.subplots(2, sharex=True), ("reward", "entropy"), strict=True):
            for shade, (name, curve) in enumerate(curves.items()):
                color = plots.COLORS["control" if "random" in name else "method"]
                strength = 1 - 0.75 * shade / len(curves)
                axes.plot(range(1, len(curve[part]) + 1), curve[part], color=color, alpha=strength, label=name)
            axes.set_ylabel({"reward": "reward less price, nats", "entropy": "entropy, nats"}[part])
            axes.grid(True)
        axes.set_xlabel("epoch")
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=7, loc="outside upper left", ncols=2)
        return plots.svg(figure, "What each policy earned on references, and its entropy, by epoch")


if __name__ == "__main__":
    main(sys.argv[1])
