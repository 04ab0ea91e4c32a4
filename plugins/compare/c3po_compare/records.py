"""What a protocol's comparisons come to: a comparison, an arm's row, a point of a curve, each declared once."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any

from pydantic import Field

from c3po_adaptive.records.base import Part
from c3po_adaptive.storage.json_files import SCHEMA


class Estimated(Part):
    """a difference with its 95 % interval

    Attributes:
        n: answers of either side.
        difference: in the measure's unit: points, nats or base forwards.
        ci_low: lower end.
        ci_high: upper end.
    """

    n: int
    difference: float
    ci_low: float
    ci_high: float


class Compared(Estimated):
    """a comparison that a protocol names: ``a`` minus ``b``

    Attributes:
        on: the answers that it is made of.
        units: how many there are of what is resampled.
        draws: that both sides were answered in.
        error: standard error of the difference.
        freedom: degrees of freedom of a test by t, told nowhere; infinite of one that has none.
        p: of the test, by itself: two-sided of superiority, else the larger one-sided one of the bounds that count.
        p_holm: after Holm's correction over its family; of a primary one, and of one in no family, p.
        detectable: the smallest difference that would have been found with power 0.8 after the correction; None: of
            another measure or test.
        family: whose correction it shares; None: none.
        sentence: what may be said of it.
    """

    on: str
    a: str
    b: str
    measure: str
    test: str
    unit: str
    units: int
    draws: int
    error: float
    freedom: float = Field(default=inf, exclude=True, allow_inf_nan=True)
    p: float
    p_holm: float
    detectable: float | None = None
    primary: bool
    family: str | None
    within: float | None
    least: float | None
    verdict: str = ""
    sentence: str = ""


class ArmRow(Part):
    """an arm on some answers; each unit counts once

    Attributes:
        accuracy: in percent.
        loss: negative log-likelihood of the right choice among the choices, in nats.
        cost: of an answer, in base forwards.
        no_choice: percent of what was written that is none of the choices.
    """

    on: str
    arm: str
    n: int
    accuracy: float
    loss: float
    cost: float
    no_choice: float


class Point(Estimated):
    """a point of a curve"""

    line: str
    x: float


class ComparedSummary(Part):
    """the summary of a protocol's comparisons

    Attributes:
        protocol: as it was read.
        hashes: SHA-256 of the protocol's file (``protocol``), and of the rules that judged (``rules``).
        models: that answered.
        second: the comparisons once more, over the second unit.
        left_out: what could not be compared where comparisons are made of each model or data set apart.
    """

    schema_version: Annotated[int, Field(le=SCHEMA)] = SCHEMA
    protocol: dict[str, Any]
    hashes: dict[str, str]
    models: tuple[str, ...]
    rows: tuple[ArmRow, ...]
    comparisons: tuple[Compared, ...]
    second: tuple[Compared, ...] = ()
    curves: dict[str, tuple[Point, ...]]
    left_out: tuple[str, ...] = ()
