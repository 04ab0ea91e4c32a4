"""What a comparison's folder holds, held against what its summary and its report read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ..errors import DataError
from ..storage.json_files import Ours, checked, read_json
from ..storage.run_folder import RECORDS, read_records

SUMMARY = "summary.json"
_AGAIN = "run the study again, or delete the file"


Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]


class _Cost(Ours):
    total: float
    embedding: float
    attribution: float
    optimisation: float


class Record(Ours):
    """the record of an answer"""

    id: str
    dataset: str
    split: str
    subject: str
    arm: str
    optimizer: str
    selector: str
    needs_label: bool
    setting: dict[str, Any]
    seed: Whole
    answer: Whole
    choice: Whole
    correct: bool
    base_choice: Whole | None
    base_correct: bool | None
    scores: list[float] = Field(min_length=1)
    base_scores: list[float]
    layers: list[Whole]
    experts: dict[str, list[Whole]]
    strength: float | None = None
    layer_scores: dict[str, float]
    pathway: dict[str, dict[str, dict[str, float]]]
    neighbours: list[dict[str, Any]]
    cost: _Cost
    seconds: float

    @model_validator(mode="after")
    def _one_of_its_choices(self) -> Self:
        if not all(0 <= i < len(self.scores) for i in (self.answer, self.choice, self.base_choice or 0)):
            raise ValueError(f"an answer or a choice that is none of {len(self.scores)}")
        return self


class _Arm(Ours):
    dataset: str
    split: str
    arm: str
    needs_label: bool
    setting: dict[str, Any]
    n: int
    accuracy: float
    gain: float
    ci_low: float
    ci_high: float
    nll: float
    flips_up: int
    flips_down: int
    layers: float
    cost: dict[str, float]


class _Comparison(Ours):
    dataset: str
    a: str
    b: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p_holm: float
    cost_ratio: float


class _Calibration(Ours):
    dataset: str
    arm: str


class Summary(Ours):
    """the summary of a comparison"""

    baseline: str
    control: str
    rows: list[_Arm]
    comparisons: list[_Comparison]
    calibration: list[_Calibration]
    risk: list[dict[str, Any]] = Field(default=[])
    draws: list[dict[str, Any]] = Field(default=[])
    versions: dict[str, str]
    config: dict[str, Any]
    hashes: dict[str, Any]


def kept_records(folder: Path | str) -> list[dict[str, Any]]:
    """A comparison's records.

    Raises:
        DataError: there are none, or one is none of ours.
    """
    rows = read_records(folder)
    for number, row in enumerate(rows, start=1):
        checked(
            Record, row, f"{Path(folder) / RECORDS}, record {number}", "delete that line, and the run answers again"
        )
    return rows


def kept_summary(folder: Path | str) -> dict[str, Any]:
    """A comparison's summary.

    Raises:
        DataError: there is none, or none of ours.
    """
    path = Path(folder) / SUMMARY
    if not path.is_file():
        raise DataError(f"Expected a summary in {path}, found none; let the run finish, or summarize its records.")
    summary: dict[str, Any] = read_json(path, _AGAIN)
    checked(Summary, summary, str(path), _AGAIN)
    arms = {(row["dataset"], row["arm"]) for row in summary["rows"]}
    if not arms or arms - {(row["dataset"], row["arm"]) for row in summary["calibration"]}:
        raise DataError(f"{path}: expected the calibration of each of {len(arms)} arms, and at least one; {_AGAIN}.")
    return summary
