"""What a speed study tells: a timed case, a timed search, and all of them."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from c3po_adaptive.storage.json_files import Ours


class TimedCase(Ours):
    """a timed case

    Attributes:
        case: its name; those of a curve are called ``curve=value``.
        ratio: seconds of a re-mixed answer over those of a plain one, the median; ``ratio_min`` and ``ratio_max``: of
            all repetitions.
        over_flops: that over the ratio of FLOPs.
        phases: seconds of each, a question.
        compared: what it has in common with those that it can be compared with.
        textbook_over_this: how much more the textbook's way adds; None: not timed beside it.
    """

    case: str
    model: str
    ratio: float
    ratio_min: float
    ratio_max: float
    flops_ratio: float
    over_flops: float
    n: int
    prompt_tokens: float
    plain_seconds: float
    added_seconds: float
    phases: dict[str, float] = Field(default_factory=dict)
    textbook: bool
    compared: tuple[Any, ...]
    textbook_over_this: float | None = None

    @model_serializer(mode="wrap")
    def _what_is_said(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = plain(self)
        return {name: value for name, value in found.items() if value is not None}


class TimedSearch(Ours):
    """a timed search: milliseconds of the median query, of the exact search's, recall of its top three"""

    search: str
    retriever: object = None
    references: int
    dimensions: int
    milliseconds: float
    exact_milliseconds: float
    recall: float
    build_seconds: float
    n: int


class SpeedSummary(Ours):
    """the summary of a speed study"""

    kind: str = "speed"
    repeats: int
    threads: int
    versions: dict[str, str]
    rows: tuple[TimedCase, ...]
    searches: tuple[TimedSearch, ...]

    @property
    def single(self) -> list[TimedCase]:
        """Cases of no curve."""
        return [row for row in self.rows if "=" not in row.case]
