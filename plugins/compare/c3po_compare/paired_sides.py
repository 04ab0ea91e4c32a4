"""Two sides of a comparison, answer by answer: which of them make a pair, and which pairs make a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from c3po_bed import KINDS
from numpy.typing import NDArray

from c3po_adaptive.analysis import differences, gold_nll
from c3po_adaptive.errors import DataError
from c3po_adaptive.study import Answered

from .kept_answers import kind_of
from .paired_runs import Run
from .protocol import Group, Measure, Side, Unit

Floats = NDArray[Any]
Key = tuple[str, str, str]
"""Model, data set and id of what is paired; "" where the two sides are of two models, or of two data sets."""
Draws = dict[int, float]

VALUES: dict[Measure, Callable[[Answered], float]] = {
    "correct": lambda answered: float(answered.correct),
    "loss": gold_nll,
    "cost": lambda answered: answered.cost.total,
}


@dataclass(frozen=True)
class Pairs:
    """Differences of two sides, or the values of one.

    Attributes:
        units: of each unit that is resampled ``[N, R]``, by answer and draw, so weighted that its plain mean counts.
        questions: likewise of each question; the same where it is the unit.
        flips: that they are of answers turned right or wrong, one a question.
    """

    units: list[Floats]
    questions: list[Floats]
    flips: bool

    @property
    def n(self) -> int:
        """How many there are."""
        return sum(map(len, self.questions))

    @property
    def by_question(self) -> Floats:
        """``[N, R]``, each the mean over its models."""
        return np.array([own.mean(0) for own in self.questions])

    @property
    def mean(self) -> float:
        """Over units."""
        return float(np.mean([own.mean() for own in self.units]))


class Answers:
    """Answers of several models, by arm.

    Args:
        runs: by model.
        sources: source data sets by kind, beside the bed's.
    """

    def __init__(self, runs: Sequence[Run], sources: Mapping[str, str]) -> None:
        self.sources = sources
        self.by_arm: dict[str, dict[Key, dict[int, Answered]]] = {}
        for run in runs:
            for r in run.records:
                self.by_arm.setdefault(r.arm, {}).setdefault((run.name, r.dataset, r.id), {})[r.seed] = r
        keys = [key for own in self.by_arm.values() for key in own]
        self.models, self.datasets = ([*dict.fromkeys(key[i] for key in keys)] for i in (0, 1))
        self.kinds = sorted({kind_of(r) for run in runs for r in run.records})

    def of(self, group: Group, side: Side, arm: str | None = None) -> dict[Key, dict[int, Answered]]:
        """A side's answers in a group, or those of another arm in its place, by draw.

        A model or a data set that the side itself names need not be among the group's.
        """
        models = {side.model} if side.model else {*(group.models or self.models)}
        datasets = {side.dataset} if side.dataset else {*(group.datasets or self.datasets)}
        kinds = {*(group.kinds or self.kinds)} - {*group.without}
        return {
            key: draws
            for key, draws in self.by_arm[arm or side.arm].items()
            if key[0] in models and key[1] in datasets and kind_of(next(iter(draws.values()))) in kinds
        }

    def alone(self, group: Group, side: Side, measure: Measure, unit: Unit) -> Pairs:
        """The values of one side."""
        values = self._values(group, side, measure, (False, False))
        rows = [(key, np.array([sum(own.values()) / len(own)])) for key, own in values.items()]
        return self._pairs(rows, group, side, unit, flips=False)

    def paired(self, group: Group, a: Side, b: Side, measure: Measure, unit: Unit) -> Pairs:
        """What side ``a`` has more than ``b``; where one names a model or a data set, both do.

        Raises:
            DataError: the sides, or the models of the group, did not answer the same questions, or there is a single
                unit, which tells nothing of others.
        """
        blank = a.model != b.model, a.dataset != b.dataset
        one, two = (self._values(group, side, measure, blank) for side in (a, b))
        if group.questions == "common":
            one = {key: own for key, own in one.items() if key in two}
            two = {key: two[key] for key in one}
        if lone := one.keys() ^ two.keys():
            raise DataError(
                f"Expected both sides to answer the same questions, got {len(lone)} that one of them alone answered "
                f"(such as {_named(min(lone))}); finish that run, or give the group questions: common."
            )
        self._check_whole(group, a, one, blank)
        if not (kept := _of_all_models(group, [*one], unit)):
            raise DataError("Expected questions that all models of the group answered, got none; name other models.")
        arrays = differences(*(_by_model(kept, of) for of in (one, two)))
        in_order = sorted(kept, key=lambda key: [*arrays].index(key[0]))
        rows = list(zip(in_order, np.concatenate([*arrays.values()]), strict=True))
        found = self._pairs(rows, group, a, unit, flips=measure == "correct" and not (a.less or b.less))
        if len(found.units) < 2:
            raise DataError(f"Expected several {unit}s, which are resampled, got one; name another unit.")
        return found

    def _check_whole(self, group: Group, side: Side, found: Collection[Key], blank: tuple[bool, bool]) -> None:
        """Refuse models and data sets of a group that neither side answered: the rest would be another comparison."""
        models = [side.model] if side.model else group.models or self.models
        known = dict.fromkeys(key[1] for own in self.by_arm.values() for key in own if key[0] in models)
        datasets = [side.dataset] if side.dataset else group.datasets or known
        for i, (what, wanted) in enumerate((("model", models), ("data set", datasets))):
            if not blank[i] and (lacking := [name for name in wanted if name not in {key[i] for key in found}]):
                raise DataError(
                    f"Expected answers of both sides of each {what} of the group, got none of {', '.join(lacking)}; "
                    f"name the {what}s that have them in a group."
                )

    def _values(self, group: Group, side: Side, measure: Measure, blank: tuple[bool, bool]) -> dict[Key, Draws]:
        """What is measured of a side's answers, draw by draw; less that of another arm, if it is a gain."""
        value, told = VALUES[measure], self.of(group, side)
        found = {key: {seed: value(r) for seed, r in own.items()} for key, own in told.items()}
        if side.less:
            base = self.of(group, side, side.less)
            if lacking := found.keys() - base.keys():
                raise DataError(
                    f"Expected answers of {side.less!r} to all questions of {side.arm!r}, got none to {len(lacking)} "
                    f"(such as {_named(min(lacking))}); finish the run."
                )
            found = {key: _less(own, {seed: value(r) for seed, r in base[key].items()}) for key, own in found.items()}
        return {("" if blank[0] else m, "" if blank[1] else d, id_): own for (m, d, id_), own in found.items()}

    def _pairs(self, rows: Sequence[tuple[Key, Floats]], group: Group, side: Side, unit: Unit, *, flips: bool) -> Pairs:
        kinds = {key[1:]: kind_of(next(iter(own.values()))) for key, own in self.of(group, side).items()}
        kinds |= {("", id_): kind for (_, id_), kind in kinds.items()}
        questions = units = _units(rows, [key[1:] for key, _ in rows], group)
        if unit != "question":
            labels = [kinds[key[1:]] if unit == "kind" else self._source(kinds[key[1:]]) for key, _ in rows]
            units = _units(rows, labels, group)
        return Pairs(units, questions, flips and len(questions) == len(rows))

    def _source(self, kind: str) -> str:
        if kind in self.sources:
            return self.sources[kind]
        if kind not in KINDS:
            raise DataError(f"Expected a source data set of the kind {kind!r}, got none; name it under sources.")
        return KINDS[kind].source.name


def _units(rows: Sequence[tuple[Key, Floats]], labels: Sequence[object], group: Group) -> list[Floats]:
    """``[N, R]`` of each unit, by its label; within one models count alike, or answers."""
    found: dict[object, list[tuple[str, Floats]]] = {}
    for label, (key, row) in zip(labels, rows, strict=True):
        found.setdefault(label, []).append((key[0], row))
    if group.weights == "question":
        return [np.array([row for _, row in own]) for own in found.values()]
    counts = [Counter(model for model, _ in own) for own in found.values()]
    return [
        np.array([row * (len(own) / (len(n) * n[model])) for model, row in own])
        for own, n in zip(found.values(), counts, strict=True)
    ]


def _of_all_models(group: Group, keys: Sequence[Key], unit: Unit) -> list[Key]:
    """Those that count, where all models of a group have to have answered the same."""
    asked: dict[str, set[tuple[str, str]]] = {}
    for model, dataset, id_ in keys:
        asked.setdefault(model, set()).add((dataset, id_))
    every = set.intersection(*asked.values())
    more = next((model for model, own in asked.items() if own != every), None)
    if more is not None and (group.questions == "same" or (group.questions == "own" and unit == "question")):
        example = min(asked[more] - every)
        raise DataError(
            f"Expected the models {', '.join(asked)} to answer the same questions, got {len(asked[more] - every)} "
            f"of {more!r} that some other lacks (such as {_named(('', *example))}); finish that run, or give the group "
            "questions: common, or, where kinds or sources are the unit, own."
        )
    return [key for key in keys if group.questions == "own" or key[1:] in every]


def _by_model(keys: Sequence[Key], values: Mapping[Key, Draws]) -> dict[str, dict[str, Draws]]:
    """As differences are made of them, data set and id in one text."""
    found: dict[str, dict[str, Draws]] = {key[0]: {} for key in keys}
    for model, dataset, id_ in keys:
        found[model][f"{dataset}\0{id_}"] = values[model, dataset, id_]
    return found


def _less(own: Draws, base: Draws) -> Draws:
    """Draw by draw; what was drawn once stands beside each draw of the other."""
    if len(base) == 1:
        (only,) = base.values()
        return {seed: value - only for seed, value in own.items()}
    if own.keys() != base.keys():
        raise DataError(
            f"Expected a gain over an arm with the same draws, got {len(own)} and {len(base)}; finish the run."
        )
    return {seed: value - base[seed] for seed, value in own.items()}


def _named(key: Key) -> str:
    model, dataset, id_ = key
    return f"{id_!r}{f' of {dataset!r}' * bool(dataset)}{f' by {model!r}' * bool(model)}"
