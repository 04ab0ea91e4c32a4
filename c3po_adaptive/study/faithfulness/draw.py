"""The report of a study of faithfulness: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...report.plots import faithful, heat
from ...storage.files import write_text
from ...storage.json_files import Ours, checked, read_json

_AGAIN = "run the study again"


class _Score(Ours):
    dataset: str
    score: str


class _Layers(Ours):
    dataset: str
    kind: str
    n: int
    effect: list[float]
    ci: list[tuple[float, float]] | None


class FaithfulnessSummary(Ours):
    """the summary of a study of faithfulness"""

    config: dict[str, Any]
    truths: list[str]
    decoder_layers: list[int]
    rows: list[_Score]
    layers: list[_Layers]


def page(summary: Mapping[str, Any]) -> str:
    """The page as HTML, self-contained."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader(__package__, "."), autoescape=True, trim_blocks=True)
    names = list(dict.fromkeys(row["dataset"] for row in summary["rows"]))
    shown = "all" if "all" in names else names[0]
    rows = [row for row in summary["rows"] if row["dataset"] == shown]
    drawn: str = environment.get_template("report.html.j2").render(
        summary=summary,
        shown=shown,
        names=names,
        truths=summary["truths"],
        correlations=faithful(rows, summary["truths"]),
        heat=heat(summary["layers"], summary["decoder_layers"]),
    )
    return drawn


def draw_report(out: Path | str) -> None:
    """Draw the report of a study's summary.

    Raises:
        DataError: there is none: the study was interrupted.
    """
    path = Path(out) / "summary.json"
    if not path.is_file():
        raise DataError(f"Expected a study that was run to the end, got {out} without {path.name}; run it again.")
    summary = read_json(path, _AGAIN)
    checked(FaithfulnessSummary, summary, str(path), _AGAIN)
    write_text(Path(out) / "report.html", page(summary))
