"""The comparisons that a protocol names, made of answers of several models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from c3po_adaptive.analysis import FEW_FLIPS, TAIL, Crossed, flips, over_flips, over_units, over_values
from c3po_adaptive.errors import DataError, SettingError, UnknownNameError, suggestion

from .named_verdict import SCALES, judged
from .paired_runs import Run
from .paired_sides import VALUES, Answers, Pairs
from .protocol import Curve, Group, NamedComparison, Protocol, Side, Unit
from .records import ArmRow, Compared, Point


class NamedComparisons:
    """What a protocol asks of answers.

    Args:
        protocol: which comparisons.
        runs: answers by model.

    Raises:
        UnknownNameError: the protocol names an arm, a model, a data set or a kind that no answer has.
    """

    def __init__(self, protocol: Protocol, runs: Sequence[Run]) -> None:
        self.protocol, self.answers = protocol, Answers(runs, protocol.sources)
        self.left_out: list[str] = []
        known = {
            "arm": [*self.answers.by_arm],
            "model": self.answers.models,
            "dataset": self.answers.datasets,
            "kind": self.answers.kinds,
        }
        for what, names in protocol.names().items():
            for name in sorted(names - {*known[what]}):
                hint = suggestion(name, known[what], "name one of these.")
                raise UnknownNameError(f"Expected the protocol to name a {what} of the answers, got {name!r}; {hint}")

    def made(self, unit: Unit, *, second: bool = False) -> list[Compared]:
        """All comparisons, corrected family by family; a primary one is in none.

        Each is made once: primary ones first, then those of families, then what is not tested.

        Args:
            unit: where a comparison names none of its own.
            second: without those that do.

        Raises:
            DataError: two sides cannot be compared.
            SettingError: one comparison is asked with two different ``least``.
        """
        asked = [c for c in self.protocol.comparisons if not (second and c.unit)]
        found: dict[tuple[object, ...], Compared] = {}
        for one in sorted(asked, key=lambda c: (not c.primary, c.family is None)):
            for on, group in self._parts(one):
                for a, b in one.pairs:
                    a, b, over = *_placed(a, b), one.unit or unit
                    what = *self._identity(group), str(a), str(b), one.measure, one.test, one.within, over
                    if what in found:
                        _check_least(found[what], one)
                    elif self._there(one, on, group, a, b):
                        found[what] = self._compared(one, on, group, a, b, over)
        return judged([*found.values()], self.protocol.alpha)

    def rows(self) -> list[ArmRow]:
        """Every arm on every group, and on every part of one that is compared apart."""
        parts = dict(self.protocol.groups)
        for one in self.protocol.comparisons:
            parts |= dict(self._parts(one))
        return [self._row(name, group, arm) for name, group in parts.items() for arm in self.answers.by_arm
                if self.answers.of(group, Side(arm=arm))]  # fmt: skip

    def curve(self, curve: Curve) -> list[Point]:
        """What each side of its lines wins over the other.

        Raises:
            DataError: two sides cannot be compared.
        """
        name = curve.group or next(iter(self.protocol.groups))
        group, (scale, *_) = self.protocol.groups[name], SCALES[curve.measure]
        found = []
        for line, points in curve.lines.items():
            for x, side in sorted(points.items()):
                pairs = self._pairs(curve, name, group, *_placed(side, curve.b), self.protocol.unit)
                told = {"n": pairs.n, **_ends(pairs, self._estimated(pairs), scale)}
                found.append(Point(line=line, x=x, **told))
        return found

    def _parts(self, one: NamedComparison) -> Iterator[tuple[str, Group]]:
        """Groups that it is made on, or each model and data set of these apart."""
        for name in one.group or self.protocol.groups:
            group = self.protocol.groups[name]
            models, datasets = group.models or self.answers.models, group.datasets or self.answers.datasets
            models, datasets = models if "model" in one.by else ("",), datasets if "dataset" in one.by else ("",)
            for model, dataset in product(models, datasets):
                told = ", ".join(filter(None, (model, dataset)))
                apart = {key: (value,) for key, value in (("models", model), ("datasets", dataset)) if value}
                called = told if told and group == Group() else f"{name}: {told}" if told else name
                yield called, group.model_copy(update=apart)

    def _identity(self, group: Group) -> tuple[object, ...]:
        """Which answers it is of, whatever it is called; those that had to be the same are the common ones, too."""
        models, datasets = group.models or self.answers.models, group.datasets or self.answers.datasets
        own = group.weights if group.questions == "own" else None
        return frozenset(models), frozenset(datasets), frozenset(group.kinds), frozenset(group.without), own

    def _there(self, one: NamedComparison, on: str, group: Group, a: Side, b: Side) -> bool:
        """Whether both sides have answers, where it is made apart."""
        lacking = [side for side in (a, b) if one.by and not self.answers.of(group, side)]
        self.left_out += [f"{on}: {a} − {b}, for there are no answers of {side}" for side in lacking[:1]]
        return not lacking

    def _compared(self, one: NamedComparison, on: str, group: Group, a: Side, b: Side, unit: Unit) -> Compared:
        """Without correction and verdict."""
        pairs, (scale, better, _) = self._pairs(one, on, group, a, b, unit), SCALES[one.measure]
        found = self._estimated(pairs, guarded=one.within is not None)
        p, bound = found.p, (one.within or 0) / scale
        above, below = (_p_beyond(found, pairs.mean, -sign * bound, sign) for sign in (1, -1))
        if one.test == "equivalence":
            p = max(above, below)
        elif one.test == "noninferiority":
            p = above if better > 0 else below
        return Compared(
            on=on,
            a=str(a),
            b=str(b),
            n=pairs.n,
            unit=unit,
            units=len(pairs.units),
            **{name: getattr(one, name) for name in ("measure", "test", "primary", "within", "least")},
            family=None if one.primary else one.family,
            draws=pairs.units[0].shape[1],
            **_ends(pairs, found, scale),
            error=scale * found.error,
            freedom=found.freedom,
            p=p,
            p_holm=p,
        )

    def _pairs(self, one: NamedComparison | Curve, on: str, group: Group, a: Side, b: Side, unit: Unit) -> Pairs:
        try:
            return self.answers.paired(group, a, b, one.measure, unit)
        except DataError as error:
            raise DataError(f"{a} − {b} on {on}: {error}") from None

    def _estimated(self, pairs: Pairs, *, guarded: bool = False) -> Crossed:
        """What differences tell of other units.

        Args:
            pairs: these.
            guarded: that kinds which are all alike are no certainty where hardly anything flips: the interval is then
                at least as wide as the exact one over questions.
        """
        seed, times, each = self.protocol.seed, self.protocol.resamples, pairs.by_question
        if pairs.units is pairs.questions:
            if pairs.flips:
                return over_flips([each], seed=seed, times=times)
            return over_values(each, seed=seed, times=times)
        bootstrap = self.protocol.interval == "wider"
        found = over_units(pairs.units, seed=seed, times=times, bootstrap=bootstrap)
        if guarded and pairs.flips and sum(flips([each])) < FEW_FLIPS:
            exact = over_flips([each], seed=seed, times=times)
            found = replace(found, low=min(found.low, exact.low), high=max(found.high, exact.high))
        return found

    def _row(self, name: str, group: Group, arm: str) -> ArmRow:
        side, unit = Side(arm=arm), self.protocol.unit
        found = {measure: self.answers.alone(group, side, measure, unit) for measure in VALUES}
        own = [r for draws in self.answers.of(group, side).values() for r in draws.values()]
        return ArmRow(
            on=name,
            arm=arm,
            n=found["correct"].n,
            accuracy=100 * found["correct"].mean,
            loss=found["loss"].mean,
            cost=found["cost"].mean,
            no_choice=100 * sum(r.choice < 0 for r in own) / len(own),
        )


def _placed(a: Side, b: Side) -> tuple[Side, Side]:
    """What one side says of a model or a data set holds for the other, if that says nothing."""
    one, other = (
        {name: getattr(own, name) or getattr(beside, name) for name in ("model", "dataset")}
        for own, beside in ((a, b), (b, a))
    )
    return a.model_copy(update=one), b.model_copy(update=other)


def _ends(pairs: Pairs, found: Crossed, scale: float) -> dict[str, Any]:
    """In the measure's unit."""
    return {"difference": scale * pairs.mean, "ci_low": scale * found.low, "ci_high": scale * found.high}


def _check_least(made: Compared, again: NamedComparison) -> None:
    """Refuse another than it was made with: a verdict speaks of one."""
    if again.least not in (None, made.least):
        raise SettingError(
            f"Expected one least of {made.a} − {made.b} on {made.on}, got {made.least or 'none'} and {again.least}; "
            "ask it once, or with the same least."
        )


def _p_beyond(found: Crossed, difference: float, bound: float, sign: int) -> float:
    """One-sided p of what lies on the other side of a bound: that it is above it (``sign`` 1), or below it (-1).

    By Student's t, or the normal, with the standard error that the interval has on the side of the bound: so it is
    0.025 where the 95 % interval ends at the bound, whatever the interval is by.
    """
    from scipy.stats import t

    half = difference - found.low if sign > 0 else found.high - difference
    over = sign * (difference - bound)
    if half <= 0:
        return float(over <= 0)
    return float(t.sf(over / half * t.isf(TAIL, found.freedom), found.freedom))
