"""Comparisons of one table corrected for their number; those that were named beforehand are tested alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..records.summary import Comparison, Unit
from .power import detectable
from .statistics import holm

Named = Collection[tuple[str, frozenset[str], Unit]]
"""Primary comparisons: data set, the two arms in either order, unit."""


def named_beforehand(groups: Mapping[str, object], primary: Iterable[tuple[str, str, Unit]]) -> Named:
    """Primary comparisons on the one data set, or on "all" of several: one test each, and not one for each data set."""
    where = "all" if len(groups) > 1 else next(iter(groups))
    return {(where, frozenset((a, b)), unit) for a, b, unit in primary}


def corrected(comparisons: Sequence[Comparison], primary: Named = ()) -> list[Comparison]:
    """With ``p_holm`` and ``detectable`` after Holm's correction over those that are not primary."""
    alone = [(c.dataset, frozenset((c.a, c.b)), c.unit) in primary for c in comparisons]
    others = [c.p for c, named in zip(comparisons, alone, strict=True) if not named]
    adjusted = iter(holm(others))
    return [
        _tested(c, c.p if named else next(adjusted), 1 if named else len(others), primary=named)
        for c, named in zip(comparisons, alone, strict=True)
    ]


def _tested(c: Comparison, p: float, comparisons: int, *, primary: bool) -> Comparison:
    found = 100 * detectable(c.error / 100, c.n, comparisons, c.freedom)
    return c.model_copy(update={"p_holm": p, "detectable": found, "primary": primary})
