"""An arm's gain on each data set, and on each kind of question in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records.answer import Answered
from . import statistics as stats


@dataclass(frozen=True)
class KindRow:
    """An arm's gain on a kind of question; ``kind`` None: on all of a data set."""

    dataset: str
    kind: str | None
    arm: str
    n: int
    accuracy: float
    base: float
    chance: float
    gain: float
    ci_low: float
    ci_high: float


def gain_by_kind(records: Sequence[Answered], arm: str, baseline: str, *, seed: int) -> list[KindRow]:
    """A row for each data set (``kind`` is None), followed by one for each of its kinds, if it has several.

    ``accuracy``, ``base`` and ``chance`` are percent, ``gain`` and its 95 % interval points, not corrected for how many
    rows there are. Questions that only one of the two answered are left out.
    """
    sides = stats.on_common_questions(*([r for r in records if r.arm == name] for name in (arm, baseline)))
    rows = []
    for dataset in dict.fromkeys(r.dataset for r in sides[0]):
        here = [[r for r in side if r.dataset == dataset] for side in sides]
        kinds = sorted({r.subject for r in here[0]})
        rows.append(_row(dataset, None, here, seed))
        if len(kinds) > 1:
            of_kinds = ([[r for r in side if r.subject == kind] for side in here] for kind in kinds)
            rows += [_row(dataset, kind, each, seed) for kind, each in zip(kinds, of_kinds, strict=True)]
    return rows


def _row(dataset: str, kind: str | None, sides: Sequence[Sequence[Answered]], seed: int) -> KindRow:
    own, base = sides
    found = stats.compare(own, base, seed=seed)
    return KindRow(
        dataset,
        kind,
        found.a,
        found.n,
        100 * stats.mean(own, stats.is_correct),
        100 * stats.mean(base, stats.is_correct),
        100 * stats.mean(own, stats.chance),
        found.difference,
        found.ci_low,
        found.ci_high,
    )
