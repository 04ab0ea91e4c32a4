"""The report of a study of faithfulness: one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from ...errors import DataError
from ...report.page import draw
from ...report.plots import faithful, heat
from ...storage.files import write_text
from ...storage.json_files import Ours, checked, read_json
from ...storage.run_folder import made_by

_AGAIN = "run the study again"


class _Mean(Ours):
    mean: float


class _Interval(_Mean):
    ci_low: float
    ci_high: float


class _Score(Ours):
    dataset: str
    score: str
    role: str
    n: int
    cost: float
    chance: float
    last: _Mean
    insertion: _Interval
    beside_random: _Interval
    deletion: _Interval
    other_neighbours: _Interval | None
    other_seed: _Interval | None
    infidelity: _Mean | None
    sensitivity: _Mean | None


class _Layers(Ours):
    dataset: str
    kind: str
    n: int
    effect: list[float]
    ci: list[tuple[float, float]] | None


class _Asked(Ours):
    n: int


class FaithfulnessSummary(Ours):
    """the summary of a study of faithfulness"""

    config: _Asked
    truths: list[str] = Field(min_length=1)
    decoder_layers: list[int] = Field(min_length=1)
    rows: list[_Score] = Field(min_length=1)
    layers: list[_Layers] = Field(min_length=1)
    counted_once: list[str] = Field(default=[])

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for row in self.rows:
            found = row.model_extra or {}
            for truth in self.truths:
                _Interval.model_validate(found.get(truth))
                if "alone" in truth:
                    _Mean.model_validate(found.get(truth.replace("alone", "best")))
        if any(len(row.effect) != len(row.ci or row.effect) for row in self.layers):
            raise ValueError("an interval for each layer's effect is wanted")
        return self


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
        truths=summary["truths"],
        correlations=faithful(rows, summary["truths"]),
        heat=heat(summary["layers"], summary["decoder_layers"]),
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
    checked(FaithfulnessSummary, summary, str(path), _AGAIN)
    write_text(Path(out) / "report.html", page(summary, made_by(out)))
