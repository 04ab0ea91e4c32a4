"""Values of two arms subtracted question by question, and draw by draw where both were drawn alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

Draw = tuple[int, int]
"""A run, of several that are looked at together, and the seed in it."""
Values = Mapping[str, Mapping[str, Mapping[Draw, float]]]
"""Of an arm, by data set, question and draw."""


def differences(a: Values, b: Values) -> dict[str, Floats]:
    """``[N, R]`` of each data set: ``a`` minus ``b`` on each question in each of R draws, the same in all data sets.

    Draws are runs, where both arms are in several (the mean over each one's seeds); else the seeds that both have. An
    arm that was answered once, such as the base, stands beside every draw of the other.

    Raises:
        DataError: the arms did not answer the same questions, have no draw in common, or one left a question out in
            some draw.
    """
    import numpy as np

    _check_questions(a, b)
    sides = [{name: _columns(questions) for name, questions in side.items()} for side in (a, b)]
    pairs = {name: _pairs(*(tuple(side[name]) for side in sides)) for name in a}
    common = set.intersection(*({label for label, _, _ in found} for found in pairs.values()))
    if not common:
        raise DataError("Expected two arms of one run, or with the same seeds, got no draw that both have.")
    left, right = sides
    return {
        name: np.stack(
            [
                _mean(left[name], one, a[name]) - _mean(right[name], two, a[name])
                for label, one, two in found
                if label in common
            ],
            axis=1,
        )
        for name, found in pairs.items()
    }


def _columns(questions: Mapping[str, Mapping[Draw, float]]) -> dict[Draw, dict[str, float]]:
    """By draw, then by question; every draw has all of them."""
    columns: dict[Draw, dict[str, float]] = {}
    for id_, values in questions.items():
        for draw, value in values.items():
            columns.setdefault(draw, {})[id_] = value
    for (run, seed), column in columns.items():
        if len(column) < len(questions):
            raise DataError(
                f"Expected every draw of an arm to answer its {len(questions)} questions, got {len(column)} with seed "
                f"{seed}{f' in run {run}' if run else ''}; finish the interrupted run."
            )
    return columns


def _pairs(a: Sequence[Draw], b: Sequence[Draw]) -> list[tuple[int, list[Draw], list[Draw]]]:
    """What is subtracted from what: a label, draws of ``a``, and draws of ``b`` that each are averaged over."""
    runs = {run for run, _ in a} & {run for run, _ in b}
    if len(runs) > 1:
        return [(run, [d for d in a if d[0] == run], [d for d in b if d[0] == run]) for run in sorted(runs)]
    one, two = ([d for d in side if d[0] in runs] for side in (a, b))
    if len(one) == 1 or len(two) == 1:
        return [(max(x[1], y[1]), [x], [y]) for x in one for y in two]
    return [(draw[1], [draw], [draw]) for draw in one if draw in two]


def _mean(columns: Mapping[Draw, Mapping[str, float]], draws: Sequence[Draw], ids: Iterable[str]) -> Floats:
    """``[N]``, in the order of the ids."""
    import numpy as np

    ids = list(ids)
    mean: Floats = np.mean([[columns[draw][id_] for id_ in ids] for draw in draws], axis=0)
    return mean


def _check_questions(a: Values, b: Values) -> None:
    left, right = ({(name, id_) for name, ids in side.items() for id_ in ids} for side in (a, b))
    if unpaired := left ^ right:
        example = min(unpaired)
        raise DataError(
            f"Expected both arms to answer the same questions, got {len(unpaired)} ids that only one of them answered "
            f"(such as {example[1]!r} of {example[0]!r}); finish the interrupted run, or compare what both have."
        )
