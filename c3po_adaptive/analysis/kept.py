"""What a comparison's folder holds, held against what its summary and its report read from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ..errors import DataError
from ..storage.json_files import Ours, checked, read_json
from ..storage.run_folder import RECORDS, read_records
from .unfinished import beside_base

SUMMARY = "summary.json"
_AGAIN = "run the study again, or delete the file"


Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Real = Annotated[float, Field(ge=-(2**63), lt=2**63)]
"""What 64 bits hold, as tables keep it."""


_Place = Annotated[int, Field(strict=True, ge=0, lt=2**16)]
_Layer = Annotated[str, Field(pattern=r"^[0-9]{1,6}$")]
"""An expert in its layer, and a decoder layer as a key of JSON."""


class _Cost(Ours):
    total: Real
    embedding: Real
    attribution: Real
    optimisation: Real


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
    scores: list[Real] = Field(min_length=1)
    base_scores: list[Real]
    layers: list[Whole]
    experts: dict[_Layer, list[_Place]]
    raised: dict[_Layer, list[_Place]] | None = None
    strength: Real | None = None
    layer_scores: dict[_Layer, Real]
    pathway: dict[str, dict[str, dict[str, float]]]
    neighbours: list[dict[str, Any]]
    neighbours_used: Annotated[int, Field(strict=True, ge=0, lt=2**31)] | None = None
    moved: Real | None = None
    once: Real | None = None
    labels: Annotated[int, Field(strict=True, ge=0, lt=2**31)] | None = None
    parameters: Whole | None = None
    cost: _Cost
    seconds: Real

    @model_validator(mode="after")
    def _one_of_its_choices(self) -> Self:
        if not all(0 <= i < len(self.scores) for i in (self.answer, self.choice, self.base_choice or 0)):
            raise ValueError(f"an answer or a choice that is none of {len(self.scores)}")
        if self.base_choice is not None and len(self.base_scores) != len(self.scores):
            raise ValueError(f"{len(self.base_scores)} base scores for {len(self.scores)} choices")
        return self


class _Arm(Ours):
    dataset: str
    split: str
    arm: str
    needs_label: bool
    setting: dict[str, Any]
    references: str
    format: str = "not recorded"
    n: int
    draws: int
    chance: float
    base_accuracy: float
    accuracy: float
    gain: float
    ci_low: float
    ci_high: float
    detectable: float | None
    nll: float
    nll_difference: float
    nll_ci_low: float
    nll_ci_high: float
    calibration_error: float
    calibration_difference: float | None = None
    calibration_ci_low: float | None = None
    calibration_ci_high: float | None = None
    flips_up: int
    flips_down: int
    layers: float
    cost: dict[str, Real | None]
    controls: list[str]
    p_beyond: float | None
    verdict: str | None
    because: str


class _Comparison(Ours):
    dataset: str
    a: str
    b: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p_holm: float
    detectable: float
    cost_ratio: float


class Summary(Ours):
    """the summary of a comparison"""

    missing: list[str] = Field(default=[])
    counted_once: list[str] = Field(default=[])
    baseline: str
    control: str
    rows: list[_Arm]
    comparisons: list[_Comparison]
    compare: list[tuple[str, str]] = Field(default=[])
    risk: list[dict[str, Any]] = Field(default=[])
    predicted: list[dict[str, Any]] = Field(default=[])
    draws: list[dict[str, Any]] = Field(default=[])
    failed: dict[str, str] = Field(default={})
    versions: dict[str, str]
    config: dict[str, Any]
    hashes: dict[str, Any]


class _Failures(Ours):
    """the summary of a comparison"""

    failed: dict[str, str] = Field(default={})


def failures(folder: Path | str) -> dict[str, str]:
    """The arms of a comparison that failed, and why, whichever version summed it up; none if there is no summary.

    Raises:
        DataError: the summary is none of ours.
    """
    path = Path(folder) / SUMMARY
    if not path.is_file():
        return {}
    return checked(_Failures, read_json(path, _AGAIN), str(path), _AGAIN).failed


def is_current(folder: Path | str) -> bool:
    """Whether there is a summary that no earlier version made; what those leave out is in the records.

    Raises:
        DataError: the summary is no JSON.
    """
    path = Path(folder) / SUMMARY
    if not path.is_file():
        return False
    found = read_json(path, _AGAIN)
    return not (isinstance(found, Mapping) and "calibration" in found and found.get("schema_version", 1) == 1)


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
    compared = {(c["dataset"], c["a"]) for c in summary["comparisons"] if c["b"] == summary["baseline"]}
    lacking = {arm for arm in arms - compared if arm[1] != summary["baseline"]}
    if lacking or not arms:
        wanted = "each arm with its comparison with the baseline"
        raise DataError(f"{path}: expected {wanted}, got no arm, or none of them for {sorted(lacking)[:3]}; {_AGAIN}.")
    return summary


def whole_records(folder: Path | str) -> list[dict[str, Any]]:
    """Records of a run, finished or not, without those of arms that failed: their answers before are no result.

    Raises:
        DataError: as for ``kept_records`` and ``failures``.
    """
    failed = failures(folder)
    return [record for record in kept_records(folder) if record["arm"] not in failed]


def kept(folder: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Both, of the same arms.

    Raises:
        DataError: as above, or records of an arm that the summary does not know.
    """
    summary, records = kept_summary(folder), whole_records(folder)
    if summary.get("missing"):
        records = beside_base(records, summary["baseline"])
    known = {(row["dataset"], row["arm"]) for row in summary["rows"]}
    for row in records:
        if (row["dataset"], row["arm"]) not in known:
            raise DataError(
                f"{folder}: expected records of the summary's arms, got one of {row['arm']!r} on {row['dataset']!r}; "
                f"{_AGAIN}."
            )
    return summary, records
