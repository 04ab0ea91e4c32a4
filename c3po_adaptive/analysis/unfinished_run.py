"""A run that did not come to its end: what of it can be compared, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..errors import DataError
from ..records.answer import Answered

R = TypeVar("R", bound=Answered)


def answered_by_base(records: Iterable[R], baseline: str) -> list[R]:
    """Records of the questions that the base answered, too: of these alone there is a gain.

    Raises:
        DataError: it answered none.
    """
    records = whole_draws(records)
    answered = {_question(r) for r in records if r.arm == baseline}
    if not answered:
        raise DataError(
            f"Expected answers of the arm {baseline!r}, which gains are measured against, got none yet; give the same "
            "command again to go on with the run."
        )
    return [r for r in records if _question(r) in answered]


def whole_draws(records: Iterable[R]) -> list[R]:
    """Of an arm that is drawn several times, the draws that answered the same questions as its first.

    As many would not do: on several machines batches of different draws may come first.
    """
    records = list(records)
    answered: dict[tuple[str, str, int], set[str]] = {}
    for r in records:
        answered.setdefault((r.dataset, r.arm, r.seed), set()).add(r.id)
    first: dict[tuple[str, str], set[str]] = {}
    for (dataset, arm, _), ids in answered.items():
        first.setdefault((dataset, arm), ids)
    whole = {key for key, ids in answered.items() if ids == first[key[:2]]}
    return [r for r in records if (r.dataset, r.arm, r.seed) in whole]


def _question(record: Answered) -> tuple[str, str]:
    return record.dataset, record.id


def missing(records: Iterable[Answered], arms: Mapping[str, int], asked: Mapping[str, int | None]) -> list[str]:
    """What a run has not answered, in words: a line for each data set that lacks something.

    Args:
        records: that there are.
        arms: that should have answered, and in how many draws.
        asked: how many questions each data set has; None: not known here.
    """
    count = Counter((r.dataset, r.arm) for r in records)
    lines = [_lacking(name, total, {arm: count[name, arm] for arm in arms}, arms) for name, total in asked.items()]
    return [line for line in lines if line]


def _lacking(dataset: str, total: int | None, count: Mapping[str, int], draws: Mapping[str, int]) -> str:
    if not any(count.values()):
        return f"{dataset} was not begun"
    most = max(-(-n // draws[arm]) for arm, n in count.items()) if total is None else total
    fewer = [
        f"{arm} answered {n or 'none'}{f' in {draws[arm]} draws' if draws[arm] > 1 else ''}"
        for arm, n in count.items()
        if n < most * draws[arm]
    ]
    lines = [f"of {most} questions of {dataset}, {', '.join(fewer)}"] if fewer else []
    if total is None:
        lines.append(f"{dataset} may have more than {most} questions, for its source is not at hand")
    return "; ".join(lines)
