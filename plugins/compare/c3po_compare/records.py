"""What two runs, and what a protocol's comparisons come to: rows, comparisons, points of a curve."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any

from pydantic import Field

from c3po_adaptive.study import SCHEMA, Part


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
        second: the comparisons once more, over the second unit or by the wider interval.
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


class SideRow(Part):
    """An arm on the questions that two runs answered: run ``b`` minus run ``a``, in points."""

    dataset: str
    arm: str
    n: int
    chance: float
    accuracy_a: float
    accuracy_b: float
    difference: float
    ci_low: float
    ci_high: float
    p: float
    flips_up: int
    flips_down: int
    cost_ratio: float
    p_holm: float


class Differing(Part):
    """A field that two configurations have different values of; None: one has no such field."""

    field: str
    a: Any
    b: Any


class TwoRuns(Part):
    """the summary of two runs

    Attributes:
        a: what one is called.
        b: what the other is.
        only_a: arms of the one alone.
        only_b: of the other.
        fields: of their configurations, those that differ.
        references: of each data set, what those of either are.
        arms: of those that are called otherwise in ``b``, the name there by that in ``a``, which rows have.
        datasets: likewise.
    """

    a: str
    b: str
    rows: tuple[SideRow, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    fields: tuple[Differing, ...] = ()
    references: dict[str, tuple[str, str]] = Field(default_factory=dict)
    arms: dict[str, str] = Field(default_factory=dict)
    datasets: dict[str, str] = Field(default_factory=dict)
