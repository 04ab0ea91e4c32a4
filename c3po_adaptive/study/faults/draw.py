"""The report of a study of known faults: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from ...errors import DataError
from ...report.page import draw
from ...storage.files import write_text
from ...storage.json_files import Ours, checked, read_json
from ...storage.run_folder import made_by
from .pictures import found_layers, won_back

_AGAIN = "run the study again"
ESTIMATES = (
    "auc",
    "precision",
    "recall",
    "cosine",
    "gain",
    "won_back",
    "loss_won_back",
    "loss_won_back_in_reach",
    "harm",
)


class _Fault(Ours):
    dataset: str
    fault: str
    dose: float
    layers: list[int]
    n: int
    concerned: int
    sound_accuracy: float
    accuracy: float
    lost: float | None
    loss_lost: float | None
    loss_in_reach: float | None


class _Row(Ours):
    dataset: str
    fault: str
    dose: float
    layers: list[int]
    selector: str
    optimizer: str
    role: str
    n: int
    chosen: list[float]
    finds: str
    mends: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        found = self.model_extra or {}
        for name in (f"{name}{end}" for name in ESTIMATES for end in ("", "_ci_low", "_ci_high")):
            if not isinstance(found.get(name, ""), float | int | None):
                raise ValueError(f"{name} is wanted, a number or none")
        return self


class FaultsSummary(Ours):
    """the summary of a study of known faults"""

    config: dict[str, Any]
    decoder_layers: list[int] = Field(min_length=1)
    faults: list[_Fault] = Field(min_length=1)
    rows: list[_Row] = Field(min_length=1)


def page(summary: Mapping[str, Any], made: Mapping[str, str | None] | None = None) -> str:
    """The page as HTML, self-contained; ``made`` says by what, as ``made_by`` does."""
    names = list(dict.fromkeys(row["dataset"] for row in summary["rows"]))
    shown = "all" if "all" in names else names[0]
    rows = [row for row in summary["rows"] if row["dataset"] == shown]
    return draw(
        __package__,
        "report.html.j2",
        made=made,
        model=summary["config"].get("model"),
        summary=summary,
        names=names,
        won=won_back(rows),
        layers=found_layers(rows, summary["decoder_layers"]),
    )


def draw_report(out: Path | str) -> None:
    """Draw the report of a study's summary.

    Raises:
        DataError: there is none: the study was interrupted.
    """
    path = Path(out) / "summary.json"
    if not path.is_file():
        raise DataError(f"Expected a study that was run to the end, got {out} without {path.name}; run it again.")
    summary = read_json(path, _AGAIN)
    checked(FaultsSummary, summary, str(path), _AGAIN)
    write_text(Path(out) / "report.html", page(summary, made_by(out)))
