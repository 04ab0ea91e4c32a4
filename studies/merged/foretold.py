"""What audits foretold beside what was won, from ``studies/``: ``python -m merged.foretold merged/results/foretold
merged/results/{second,beside}/*.parquet --out merged/results/foretold``, with the files of ``merged.foretell``, each
named as its model's answers are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from c3po_audit.records import ExpectedGain
from c3po_compare import answers
from scipy.stats import spearmanr

from c3po_adaptive.analysis.over_kinds import over_units
from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.errors import DataError
from c3po_adaptive.report import COLORS, panels, standalone, style, svg
from c3po_adaptive.storage.files import write_text

ARM, BASE, SEED = "nearest", "base", 0
app = typer.Typer(no_args_is_help=True)


@dataclass(frozen=True)
class Told:
    """Of a model: points, each with its ends, and the nats that the step takes off a loss, to first order."""

    model: str
    foretold: float
    foretold_low: float
    foretold_high: float
    nats: float
    won: float
    won_low: float
    won_high: float

    @property
    def sure(self) -> bool:
        """Whether the audit says that it pays, or that it harms."""
        return self.foretold_low > 0 or self.foretold_high < 0

    @property
    def wrong(self) -> bool:
        """Whether it says so, and the other was the case."""
        return self.sure and self.foretold * self.won < 0


def told(file: Path, kept: Path) -> Told:
    """What was foretold of a model, and what ``nearest`` won over the model as it was, kinds as the unit.

    Raises:
        DataError: an arm is not among the answers.
    """
    found = ExpectedGain.model_validate_json(file.read_text(encoding="utf-8"))
    table = answers(kept)
    right = table.pivot_table(index=["kind", "question"], columns="arm", values="correct", aggfunc="mean")
    if lacking := {ARM, BASE} - {*right.columns}:
        raise DataError(f"Expected answers of {ARM} and of {BASE} in {kept}, got none of {', '.join(lacking)}.")
    gains = 100 * (right[ARM] - right[BASE]).astype(float)
    kinds = [own.to_numpy()[:, None] for _, own in gains.groupby(level="kind")]
    over, points = over_units(kinds, seed=SEED), found.points
    won = float(np.mean([own.mean() for own in kinds]))
    return Told(file.stem, points.value, points.low, points.high, found.nats, won, over.low, over.high)


def correlation(rows: Sequence[Told], by: str) -> float:
    """Rank correlation of what was foretold, ``foretold`` or ``nats``, with what was won."""
    return float(spearmanr([getattr(row, by) for row in rows], [row.won for row in rows]).statistic)


def summary(rows: Sequence[Told]) -> dict[str, object]:
    """What the study says of them."""
    return {
        "models": [asdict(row) for row in rows],
        "rank correlation": {by: round(correlation(rows, by), 3) for by in ("foretold", "nats")},
        "sure": sum(row.sure for row in rows),
        "wrong": sorted(row.model for row in rows if row.wrong),
    }


def page(rows: Sequence[Told]) -> str:
    """A row a model, the most won first."""
    lines = ["| model | foretold, points | nats | won, points |", "| --- | ---: | ---: | ---: |"]
    for row in sorted(rows, key=lambda row: -row.won):
        foretold, won = (
            f"{value:+.1f} [{low:.1f}, {high:.1f}]".replace("-", "−")
            for value, low, high in (
                (row.foretold, row.foretold_low, row.foretold_high),
                (row.won, row.won_low, row.won_high),
            )
        )
        lines.append(f"| `{row.model}` | {foretold} | {row.nats:.2f} | {won} |")
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[Told]) -> str:
    """Points won by points foretold, a mark a model, with intervals both ways."""
    with style():
        figure, (axes,) = panels(4.4)
        ends = [min(row.foretold_low for row in rows), max(row.foretold_high for row in rows)]
        axes.axline((0, 0), slope=1, color=COLORS["grid"])
        axes.axhline(0, color=COLORS["text"], linewidth=0.8)
        axes.axvline(0, color=COLORS["text"], linewidth=0.8)
        for n, row in enumerate(sorted(rows, key=lambda row: row.won)):
            color = COLORS["method"] if row.sure else COLORS["base"]
            axes.hlines(row.won, row.foretold_low, row.foretold_high, color=color, linewidth=0.8, alpha=0.5)
            axes.vlines(row.foretold, row.won_low, row.won_high, color=color, linewidth=0.8, alpha=0.5)
            axes.plot(row.foretold, row.won, "o", color=color, markersize=4)
            beside = (4, (-8, 3)[n % 2])
            axes.annotate(row.model, (row.foretold, row.won), beside, textcoords="offset points", size=7)
        axes.set_xlim(ends[0] - 1, ends[1] + 1)
        axes.set_xlabel("foretold by labeled questions, points")
        axes.set_ylabel("won on other questions, points")
        return svg(figure, "Points won on questions nobody had seen by points that the audit foretold, a mark a model")


@app.command()
@clear_errors()
def foretold(
    folder: Annotated[Path, typer.Argument(help="Of the files of merged.foretell.")],
    kept: Annotated[list[Path], typer.Argument(help="Kept answers, MODEL.parquet.")],
    out: Annotated[Path, typer.Option(help="A folder: foretold.json, foretold.md, foretold.svg.")],
) -> None:
    """Hold what audits foretold against what was won, of every model that has both."""
    files = {path.stem: path for path in kept}
    rows = [told(file, files[file.stem]) for file in sorted(folder.glob("*.json")) if file.stem in files]
    found = summary(rows)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "foretold.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "foretold.md", page(rows))
    write_text(out / "foretold.svg", standalone(picture(rows)))
    typer.echo(page(rows) + json.dumps({key: found[key] for key in ("rank correlation", "sure", "wrong")}))


if __name__ == "__main__":
    app()
