"""Two runs beside each other: arms of the same name on the questions that both answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from c3po_adaptive.analysis import compare, holm, mean
from c3po_adaptive.study import Answered

from .paired_runs import Pair, Run, by_arm, paired
from .records import Differing, SideRow, TwoRuns


def side_by_side(a: Run, b: Run, *, seed: int = 0, again: Collection[str] = ()) -> TwoRuns:
    """Arm by arm, run ``b`` minus run ``a``, finished or not.

    Args:
        a: one run.
        b: another.
        seed: of the bootstrap.
        again: data sets that ask others' questions once more: ``all`` is without them.

    Returns:
        Paired differences on the questions that both runs answered, p by the exact McNemar test (on ``all``, the mean
        over data sets, by sign flips), and by Holm for the arms on one data set.

    Raises:
        DataError: no arm of the same name answered the same question in both, or an id stands for two questions.
    """
    pairs = paired(a, b)
    rows: list[SideRow] = []
    for name, of in _datasets(pairs, again).items():
        some = {arm: _on(of, pair) for arm, pair in pairs.items()}
        rows += _with_holm([_row(name, arm, *pair, seed) for arm, pair in some.items() if pair[0]])
    return TwoRuns(
        a=a.name,
        b=b.name,
        rows=tuple(rows),
        only_a=tuple(arm for arm in by_arm(a.records) if arm not in pairs),
        only_b=tuple(arm for arm in by_arm(b.records) if arm not in pairs),
    )


def differing(a: Mapping[str, Any], b: Mapping[str, Any], at: str = "") -> list[Differing]:
    """Fields that two configurations have different values of, by their dotted names; None: it has no such field.

    What one has as a whole (an arm, say) is one field; so are lists of anything but mappings.

    Args:
        a: plain values of one.
        b: those of another.
        at: the name that these are the parts of.
    """
    found: list[Differing] = []
    for key in [*a, *(key for key in b if key not in a)]:
        name, one, other = f"{at}.{key}" if at else str(key), a.get(key), b.get(key)
        if (mine := _parts(one)) and (theirs := _parts(other)):
            found += differing(mine, theirs, name)
        elif one != other:
            found.append(Differing(field=name, a=one, b=other))
    return found


def _parts(value: Any) -> Mapping[str, Any]:
    """What can be named within a value."""
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        return {str(place): part for place, part in enumerate(value)}
    return value if isinstance(value, Mapping) else {}


def _datasets(pairs: Mapping[str, Pair], again: Collection[str]) -> dict[str, list[str]]:
    """Those that there are, and "all" last, with those that it is of, if each of several has every arm."""
    by_arm = [dict.fromkeys(r.dataset for r in one) for one, _ in pairs.values()]
    found = {name: [name] for own in by_arm for name in own}
    counted = [name for name in found if name not in again]
    return found | {"all": counted} if len(counted) > 1 and all({*counted} <= {*own} for own in by_arm) else found


def _on(datasets: Collection[str], pair: Pair) -> Pair:
    one, two = ([r for r in records if r.dataset in datasets] for records in pair)
    return one, two


def _row(dataset: str, arm: str, a: list[Answered], b: list[Answered], seed: int) -> SideRow:
    found = compare(b, a, seed=seed)
    kept = ("n", "difference", "ci_low", "ci_high", "p", "p_holm", "flips_up", "flips_down", "cost_ratio")
    return SideRow(
        dataset=dataset,
        arm=arm,
        chance=100 * mean(a, attrgetter("chance")),
        accuracy_a=100 * mean(a, attrgetter("correct")),
        accuracy_b=100 * mean(b, attrgetter("correct")),
        **{name: getattr(found, name) for name in kept},
    )


def _with_holm(rows: Sequence[SideRow]) -> list[SideRow]:
    adjusted = holm([row.p for row in rows])
    return [row.model_copy(update={"p_holm": p}) for row, p in zip(rows, adjusted, strict=True)]
