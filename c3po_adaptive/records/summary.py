"""The summary of a comparison: an arm's row, a comparison of two arms, and the rest, each declared once."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..storage.json_files import SCHEMA
from .base import Part, Real
from .setting import Setting

SIGNIFICANT = 0.05
FEW_REFERENCES = 10
"""Below so many, neighbours are most of them, near or not; plans and reports say so."""
Unit = Literal["question", "kind"]
"""What a comparison counts once, and resamples."""
Role = Literal["base", "control", "oracle", "method"]
"""What an arm is there for: left alone, a control, an upper bound, or what could be used."""


class RowCost(Part):
    """What an answer took on average, in base forwards; ``once``: before the first question, None: not recorded."""

    prefill: Real
    embedding: Real
    attribution: Real
    optimisation: Real
    total: Real
    once: Real | None


class Row(Part):
    """an arm's row in a summary

    Accuracies, gains and calibration errors are in points, intervals are 95 %.

    Attributes:
        dataset: its name, or "all": the mean over data sets.
        references: names of the sources that references come from.
        format: how questions were put, in words.
        draws: that it answered in.
        gain: over the base.
        detectable: the smallest gain that would have been found with power 0.8 after the correction that the verdict
            makes; None: of the base.
        flips_up: questions that it gets right where the base does not.
        flips_down: the reverse.
        layers: how many were re-mixed, on average.
        moved: of their weight, the share that lies on other experts; None: not recorded, as for those below.
        neighbours_used: how many references had a weight, on average.
        labels: of how many references it could learn.
        parameters: how many were trained.
        controls: names of the arms that its gain has to go beyond.
        p_beyond: the largest p among comparisons with these, after Holm, if not all are primary; None: there are none.
        verdict: see ``analysis.verdict``; None: there is none.
        because: what that rests on, in words.
        headline: whether the run is about this arm.
    """

    dataset: str
    split: str
    arm: str
    role: Role
    optimizer: str
    selector: str
    needs_label: bool
    setting: Setting
    references: str
    format: str
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
    calibration_difference: float
    calibration_ci_low: float
    calibration_ci_high: float
    flips_up: int
    flips_down: int
    layers: float
    moved: float | None
    neighbours_used: float | None
    labels: float | None
    parameters: float | None
    cost: RowCost
    controls: tuple[str, ...] = ()
    p_beyond: float | None = None
    verdict: str | None = None
    because: str = ""
    headline: bool = False


class Comparison(Part):
    """two arms on the same questions: ``a`` minus ``b``, in points

    Attributes:
        ci_low: lower end of the difference's 95 % interval.
        ci_high: upper end.
        p: two-sided, not adjusted: the exact McNemar test on one data set; on several, where flips of large and small
            ones cannot be pooled, a sign-flip permutation test of the mean over data sets. With several draws that of
            ``crossed``, if it is larger than one over questions alone.
        error: standard error of the difference.
        detectable: the smallest difference that would have been found with power 0.8 after Holm's correction over its
            table, by itself if it is primary: see ``power``.
        draws: that both arms were answered in.
        cost_ratio: cost of ``a`` divided by that of ``b``, by FLOPs.
        flips_up: questions that ``a`` gets right (more often) where ``b`` does not; reported in the arm's row.
        flips_down: the reverse.
        freedom: degrees of freedom of its p, reported nowhere; infinite where it is by no test by t.
        p_holm: p after Holm's correction over its table; as long as there is none, and of a primary one, p.
        headline: whether the run is about arm ``a``.
        primary: whether the configuration named it beforehand as one that is tested alone, without correction.
        unit: what is resampled: questions, or kinds of question, of which each counts once: see ``over_kinds``.
        kinds: how many there are, where they are the unit.
        nll_difference: of the negative log-likelihood of right options, in nats: below zero ``a`` is better; None: not
            reported, as over kinds and in summaries of before.
        nll_ci_low: lower end of its 95 % interval over questions.
        nll_ci_high: upper end.
    """

    dataset: str
    a: str
    b: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    error: float
    detectable: float
    draws: int
    cost_ratio: float
    flips_up: int = Field(default=0, exclude=True)
    flips_down: int = Field(default=0, exclude=True)
    freedom: float = Field(default=inf, exclude=True, allow_inf_nan=True)
    p_holm: float
    headline: bool = False
    primary: bool = False
    unit: Unit = "question"
    kinds: int | None = None
    nll_difference: float | None = None
    nll_ci_low: float | None = None
    nll_ci_high: float | None = None

    @property
    def claimed(self) -> int:
        """1 if it allows to claim that ``a`` is better, -1 that it is worse, else 0: p and interval agree."""
        if self.p >= SIGNIFICANT:
            return 0
        return int(self.ci_low > 0) - int(self.ci_high < 0)

    @property
    def mirrored(self) -> Comparison:
        """Arm ``b`` minus arm ``a``."""
        ends = {"difference": -self.difference, "ci_low": -self.ci_high, "ci_high": -self.ci_low}
        nll = {"nll_difference": self.nll_difference, "nll_ci_low": self.nll_ci_high, "nll_ci_high": self.nll_ci_low}
        ends |= {name: -value for name, value in nll.items() if value is not None}
        return self.model_copy(update={"a": self.b, "b": self.a, **ends})


class Coverage(Part):
    """An arm's gain and harm, in points, if only a share of the questions is re-mixed, strongest signal first."""

    dataset: str
    arm: str
    coverage: float
    gain: float
    ci_low: float
    ci_high: float
    harm: float


class Fifth(Part):
    """Questions of about one signal: its mean, and the mean change that was realised, in nats."""

    predicted: float
    realised: float
    ci_low: float
    ci_high: float
    n: int


class Predicted(Part):
    """Predicted beside realised benefit of an arm: see ``analysis.strength_of_signal``."""

    dataset: str
    arm: str
    n: int
    n_acted: int
    rank_correlation: float | None
    rank_correlation_low: float | None
    rank_correlation_high: float | None
    within: float | None
    within_low: float | None
    within_high: float | None
    acted: float | None
    acted_low: float | None
    acted_high: float | None
    bins: tuple[Fifth, ...]


class Agreement(Part):
    """How near an arm's changes of pathways come to a standard's: see ``analysis.pathway_similarity``."""

    dataset: str
    arm: str
    standard: str
    cosine: float
    ci_low: float | None
    ci_high: float | None
    n: int
    same_answers: float


class AmongDraws(Part):
    """Where an arm's gain stands among the draws of a control: see ``analysis.repeated_controls``."""

    dataset: str
    arm: str
    control: str
    draws: int
    gain: float
    mean: float
    sd: float
    lowest: float
    highest: float
    p: float | None


class Summary(Part):
    """the summary of a comparison

    Attributes:
        missing: what the run has not answered.
        audit: what an audit of the model says; None: none was named.
        baseline: the arm that gains are measured against.
        compare: pairs of arms that were asked for.
        config: of the run, as plain values.
        hashes: of configuration, records and what was read.
        failed: arms that were left out, and why.
        counted_once: repeated questions.
        poisoned: what was done to data sets on purpose.
    """

    schema_version: Annotated[int, Field(le=SCHEMA)] = SCHEMA
    missing: tuple[str, ...] = ()
    audit: str | None = None
    baseline: str
    compare: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...] = Field(min_length=1)
    risk: tuple[Coverage, ...]
    predicted: tuple[Predicted, ...]
    agreement: tuple[Agreement, ...]
    comparisons: tuple[Comparison, ...]
    draws: tuple[AmongDraws, ...]
    versions: dict[str, str | None]
    seed: int
    config: dict[str, Any]
    hashes: dict[str, Any]
    failed: dict[str, str] = Field(default_factory=dict)
    counted_once: tuple[str, ...] = ()
    poisoned: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_arm_beside_the_base(self) -> Self:
        arms = {(row.dataset, row.arm) for row in self.rows if row.arm != self.baseline}
        compared = {(c.dataset, c.a) for c in self.comparisons if c.b == self.baseline}
        if lacking := sorted(arms - compared):
            raise ValueError(f"no comparison with the baseline of {lacking[:3]}")
        return self

    @property
    def shown_dataset(self) -> str:
        """The data set that sentences speak of: "all", or the only one that counts."""
        names = [row.dataset for row in self.rows]
        return "all" if "all" in names else names[0]

    @property
    def datasets(self) -> list[str]:
        """The shown one first."""
        return list(dict.fromkeys([self.shown_dataset, *(row.dataset for row in self.rows)]))

    def on(self, dataset: str) -> list[Row]:
        """The rows of a data set."""
        return [row for row in self.rows if row.dataset == dataset]

    def find(self, dataset: str, a: str, b: str) -> Comparison | None:
        """The comparison of two arms over questions, if it was made."""
        wanted = dataset, a, b, "question"
        return next((c for c in self.comparisons if (c.dataset, c.a, c.b, c.unit) == wanted), None)
