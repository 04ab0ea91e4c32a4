"""What the paper varies, here and there, from ``studies/``: ``python -m paper.beside paper/results/merged``, once
``c3po compare`` has judged the answers of ``merged.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from c3po_compare.records import Compared, ComparedSummary
from merged.arms_page import UNTOLD, points
from merged.choose import BASE

from c3po_adaptive.cli.terminal import clear_errors
from c3po_adaptive.storage.files import write_text

TUNED = "tuned"
"""What all is varied around: here C3PO's descent as it was tuned, in the paper its setting."""
PUBLISHED = {
    TUNED: 79.2,
    "steps / 3": 74.2,
    "steps / 5": 76.9,
    "steps / 20": 79.25,
    "neighbours / 1": 75.3,
    "neighbours / 5": 77.7,
    "neighbours / within 0.5": 77.1,
    "kernel / matern": 76.3,
    "kernel / polynomial": 73.3,
    "kernel / linear": 69.95,
}
"""Of arXiv 2504.07964: OLMoE 7B, mean of six benchmarks in percent."""
PUBLISHED_BASE = 69.9
HEAD = (
    "setting",
    "right, %",
    "over base [95 %]",
    f"less `{TUNED}` [95 %]",
    "the paper, over its base",
    "less its best",
)
app = typer.Typer(no_args_is_help=True)


def table(found: ComparedSummary) -> str:
    """A row a setting: what it gains here over the model as it is and over what it varies, and what the paper tells."""
    against = {b: {one.a: one for one in found.comparisons if one.b == b} for b in (BASE, TUNED)}
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1))]
    lines += [(row.arm, f"{row.accuracy:.1f}", *_gains(row.arm, against), *_published(row.arm)) for row in found.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _gains(arm: str, against: Mapping[str, Mapping[str, Compared]]) -> tuple[str, str]:
    return points(against[BASE].get(arm)), points(against[TUNED].get(arm))


def _published(arm: str) -> tuple[str, str]:
    if arm not in PUBLISHED:
        return UNTOLD, UNTOLD
    gained, less = PUBLISHED[arm] - PUBLISHED_BASE, PUBLISHED[arm] - PUBLISHED[TUNED]
    return f"{gained:+.1f}".replace("-", "−"), f"{less:+.1f}".replace("-", "−") if arm != TUNED else UNTOLD


@app.command()
@clear_errors()
def page(results: Annotated[Path, typer.Argument(help="Folder with the summary.json of c3po compare.")]) -> None:
    """Write ``beside.md`` there."""
    found = ComparedSummary.model_validate_json((results / "summary.json").read_bytes())
    write_text(results / "beside.md", table(found))


if __name__ == "__main__":
    app()
