"""The protocol of a comparison: which answers, which arms, which tests, written before they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from c3po_adaptive.analysis import SIGNIFICANT
from c3po_adaptive.errors import suggestion
from c3po_adaptive.study import Settings

Unit = Literal["question", "kind", "source"]
Test = Literal["superiority", "equivalence", "noninferiority"]
Measure = Literal["correct", "loss", "cost"]


def _several(given: Any) -> Any:
    """One stands for a list of one."""
    return given if isinstance(given, list | tuple) else (given,)


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Side(Settings):
    """One side of a comparison; a text is the arm of that name.

    Attributes:
        arm: what answered.
        less: another arm, whose value is taken from the arm's question by question: a gain.
        model: whose answers, where the two sides are of two models, draws or sizes.
        dataset: likewise, where they are of two data sets of the same questions.
    """

    called: ClassVar[str] = "a side of a comparison"

    arm: str
    less: str | None = None
    model: str | None = None
    dataset: str | None = None

    def __str__(self) -> str:
        gain = f"{self.arm} over {self.less}" if self.less else self.arm
        where = [part for part in (self.model, self.dataset) if part]
        return f"{gain} ({', '.join(where)})" if where else gain


def _side(given: Any) -> Any:
    return {"arm": given} if isinstance(given, str) else given


def _sides(given: Any) -> Any:
    return [_side(one) for one in _several(given)]


OneSide = Annotated[Side, BeforeValidator(_side)]
Sides = Annotated[tuple[Side, ...], BeforeValidator(_sides)]


class Group(Settings):
    """Answers that are taken together.

    Attributes:
        models: whose; empty: of all.
        datasets: to which data sets; empty: to all.
        kinds: to which kinds of question; empty: to all.
        without: kinds that are left out.
        questions: whether its models and both sides have to have answered the ``same`` questions, only those count that
            all did (``common``), or each model has its ``own``, over kinds or sources.
        weights: within a kind or a source, where models have their own, what counts alike: each ``model``, or each
            ``question`` that was answered.
    """

    called: ClassVar[str] = "a group of answers"

    models: Names = ()
    datasets: Names = ()
    kinds: Names = ()
    without: Names = ()
    questions: Literal["same", "common", "own"] = "same"
    weights: Literal["model", "question"] = "model"


class NamedComparison(Settings):
    """Side ``a`` minus side ``b``; several of either are each compared with each.

    Attributes:
        a: one side.
        b: the side that is taken from it.
        between: in the place of ``b``, two models or two data sets, ``dataset: [generated, likelihood]``: each of ``a``
            in the first minus itself in the second.
        group: of answers, or several; empty: every one.
        by: made apart in each ``model``, each ``dataset``, or each pair of these, of the group, that has both arms.
        primary: tested alone.
        family: otherwise it shares Holm's correction with those of the same; null: it is looked at, not tested.
        test: whether there is a difference (``superiority``), two-sided; whether it is within the bounds
            (``equivalence``), by two one-sided tests; whether ``a`` is not worse by as much (``noninferiority``).
        within: these bounds, in the measure's unit.
        least: the smallest difference of interest, which a verdict speaks of.
        measure: right answers in points (``correct``), the ``loss`` in nats, or the ``cost`` in base forwards.
        unit: what is resampled, where it is not the protocol's.
    """

    called: ClassVar[str] = "a comparison of a protocol"

    a: Sides
    b: Sides = ()
    between: dict[Literal["model", "dataset"], tuple[str, str]] = Field(default_factory=dict, max_length=1)
    group: Names = ()
    by: Annotated[tuple[Literal["model", "dataset"], ...], BeforeValidator(_several)] = ()
    primary: bool = False
    family: str | None = "secondary"
    test: Test = "superiority"
    within: float | None = Field(default=None, gt=0)
    least: float | None = Field(default=None, gt=0)
    measure: Measure = "correct"
    unit: Unit | None = None

    @model_validator(mode="after")
    def _two_sides_and_bounds(self) -> NamedComparison:
        if bool(self.b) == bool(self.between):
            raise ValueError("expected b or between, the one or the other, got both or none")
        if twice := [a for a, b in self.pairs if a == b]:
            raise ValueError(f"expected two sides, got {twice[0]} twice")
        if (self.within is None) != (self.test == "superiority"):
            raise ValueError(
                f"expected within: BOUND beside equivalence or noninferiority alone, got {self.within} for {self.test}"
            )
        return self

    @property
    def pairs(self) -> list[tuple[Side, Side]]:
        """Both sides of each that it stands for."""
        if self.b:
            return [*product(self.a, self.b)]
        ((what, where),) = self.between.items()
        return [tuple(a.model_copy(update={what: name}) for name in where) for a in self.a]  # type: ignore[misc]


class Forest(Settings):
    """A picture of comparisons, each with its interval.

    Attributes:
        families: that are drawn, ``primary`` among them; empty: all.
        parts: names of the answers that are drawn, as the table has them (``on``); empty: all.
        a: the side, in those that are drawn; empty: whatever it is.
        b: what is taken from it, likewise.
        measure: that they are of.
    """

    called: ClassVar[str] = "a forest of comparisons"

    families: Names = ()
    parts: Names = ()
    a: Names = ()
    b: Names = ()
    measure: Measure = "correct"


class Curve(Settings):
    """A picture of what sides win over another, along an x.

    Attributes:
        lines: of each line, the side at each x.
        b: the side that is taken from each.
        x: what x is.
        log: whether its axis is logarithmic.
        group: of answers; none: the first.
        measure: as of comparisons.
    """

    called: ClassVar[str] = "a curve"

    lines: dict[str, dict[float, OneSide]]
    b: OneSide
    x: str
    log: bool = False
    group: str | None = None
    measure: Measure = "correct"


class Protocol(Settings):
    """What is compared, and how, written before the answers are looked at: ``c3po compare RUNS --protocol FILE``.

    Attributes:
        unit: what is resampled, and counts once: questions, kinds of question, or the source data sets of kinds.
        second_unit: another, over which all is compared once more beside.
        interval: over kinds and sources: Student's ``t``, or the ``wider`` of it and a bootstrap of units and of the
            questions in each, which is too wide. With ``t`` and no ``second_unit``, the wider one is reported as well.
        sources: source data sets by kind, for ``source``; those of the bed's kinds are known.
        seed: of what is drawn.
        resamples: how often units are resampled.
        alpha: level of every test; intervals are 95 %.
        rules: the hash of the rules that are to judge; others are refused.
        groups: answers that are taken together, by name; none: all of them.
        comparisons: what is compared.
        forests: pictures of comparisons, by the file's name.
        curves: pictures along an x, likewise.
    """

    called: ClassVar[str] = "a protocol"

    unit: Unit
    second_unit: Unit | None = None
    interval: Literal["t", "wider"] = "wider"
    sources: dict[str, str] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)
    resamples: int = Field(default=9999, ge=999, le=10**6)
    alpha: float = Field(default=SIGNIFICANT, gt=0, le=SIGNIFICANT)
    rules: str | None = None
    groups: dict[str, Group] = Field(default_factory=lambda: {ALL: Group()}, min_length=1)
    comparisons: tuple[NamedComparison, ...] = Field(min_length=1)
    forests: dict[str, Forest] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names(self) -> Protocol:
        families = {"primary" if c.primary else c.family for c in self.comparisons}
        for what, wanted, known in (
            ("group", [name for c in self.comparisons for name in c.group], self.groups),
            ("group", [c.group for c in self.curves.values() if c.group is not None], self.groups),
            ("families", [name for f in self.forests.values() for name in f.families], families - {None}),
        ):
            for name in wanted:
                if name not in known:
                    hint = suggestion(name, sorted(map(str, known)), "name one of these.")
                    raise ValueError(f"expected {what} to name what the protocol has, got {name!r}; {hint}")
        if self.second_unit == self.unit:
            raise ValueError(f"expected another second_unit than unit, got {self.unit!r} twice")
        names = [*self.forests, *self.curves]
        if len({*names}) < len(names) or any("/" in name or name.startswith(".") for name in names):
            raise ValueError(f"expected pictures of different names that a file can have, got {', '.join(names)}")
        return self

    @property
    def sides(self) -> Iterator[Side]:
        """All that are named."""
        for one in self.comparisons:
            yield from (side for pair in one.pairs for side in pair)
        for curve in self.curves.values():
            yield curve.b
            yield from (side for points in curve.lines.values() for side in points.values())

    def names(self) -> Mapping[str, set[str]]:
        """What it names of the answers, by what it is."""
        sides, groups = list(self.sides), self.groups.values()
        return {
            "arm": {side.arm for side in sides} | {side.less for side in sides if side.less},
            "model": {side.model for side in sides if side.model} | {name for g in groups for name in g.models},
            "dataset": {s.dataset for s in sides if s.dataset} | {name for g in groups for name in g.datasets},
            "kind": {name for g in groups for name in (*g.kinds, *g.without)},
        }


ALL = "all"
"""The group of all answers, where none is named."""
