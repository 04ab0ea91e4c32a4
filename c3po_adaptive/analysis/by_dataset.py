"""Records by data set and arm, and over all data sets together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ..errors import DataError
from ..records.answer import Answered

Arms = Mapping[str, list[Answered]]
"""Records by arm."""


def grouped(
    records: Iterable[Answered], *, unfinished: bool, again: Collection[str] = ()
) -> dict[str, dict[str, list[Answered]]]:
    """``{dataset: {arm: records}}``, with "all" last if there are several data sets.

    "all" has the arms that answered every data set; an unfinished run in which an arm lacks a data set has none.

    Args:
        again: data sets that ask others' questions once more: they come after these, and "all" is without them.

    Raises:
        DataError: no records, two splits of a data set, or one that is called "all".
    """
    groups: dict[str, dict[str, list[Answered]]] = {}
    splits: dict[str, str] = {}
    for record in records:
        dataset, split = record.dataset, record.split
        if splits.setdefault(dataset, split) != split:
            raise DataError(
                f"Expected one split of {dataset!r}, got {splits[dataset]!r} and {split!r}; summarize each split alone."
            )
        groups.setdefault(dataset, {}).setdefault(record.arm, []).append(record)
    if not groups:
        raise DataError("Expected records, got none; run at least the baseline arm first.")
    if "all" in groups:
        raise DataError('Expected data sets not named "all" (their mean is), got one; rename it.')
    counted = {name: arms for name, arms in groups.items() if name not in again}
    groups = {**counted, **groups}
    first, *others = counted.values()
    everywhere = {
        arm: [record for arms in counted.values() for record in arms[arm]]
        for arm in first
        if all(arm in arms for arms in others)
    }
    if len(counted) == 1 or (unfinished and any(arms.keys() != everywhere.keys() for arms in counted.values())):
        return groups  # a mean over fewer data sets would be another figure
    return {**groups, "all": everywhere} if everywhere else groups
