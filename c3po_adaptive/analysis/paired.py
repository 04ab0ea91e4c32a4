"""Values of two arms subtracted question by question, and draw by draw where both were drawn alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from ..errors import DataError
from .crossed import Floats

Values = Mapping[str, Mapping[str, Mapping[int, float]]]
"""Of an arm, by data set, question and draw, which goes by its seed."""


def differences(a: Values, b: Values) -> dict[str, Floats]:
    """``[N, R]`` of each data set: ``a`` minus ``b`` on each question in each of R draws, the same in all data sets.

    Draws are the seeds that both have. An arm that was answered once, such as the base, stands beside every draw of the
    other.

    Raises:
        DataError: the arms did not answer the same questions, have no draw in common, or one left a question out in
            some draw.
    """
    _check_questions(a, b)
    left, right = ({name: _columns(questions) for name, questions in side.items()} for side in (a, b))
    pairs = {name: _pairs(left[name], right[name]) for name in a}
    common = set.intersection(*(set(found) for found in pairs.values()))
    if not common:
        raise DataError("Expected two arms with the same seeds, got no draw that both have.")
    found = {}
    for name, ids in a.items():
        draws = [pair for label, pair in pairs[name].items() if label in common]
        found[name] = np.array([[left[name][one][id_] - right[name][two][id_] for one, two in draws] for id_ in ids])
    return found


def _columns(questions: Mapping[str, Mapping[int, float]]) -> dict[int, dict[str, float]]:
    """By draw, then by question; every draw has all of them."""
    columns: dict[int, dict[str, float]] = {}
    for id_, values in questions.items():
        for seed, value in values.items():
            columns.setdefault(seed, {})[id_] = value
    for seed, column in columns.items():
        if len(column) < len(questions):
            raise DataError(
                f"Expected every draw of an arm to answer its {len(questions)} questions, got {len(column)} with seed "
                f"{seed}; finish the interrupted run."
            )
    return columns


def _pairs(a: Collection[int], b: Collection[int]) -> dict[int, tuple[int, int]]:
    """Which draw of ``b`` is subtracted from which of ``a``, by the seed of the one that has several."""
    if len(a) == 1 or len(b) == 1:
        return {x if len(a) > 1 else y: (x, y) for x in a for y in b}
    return {seed: (seed, seed) for seed in a if seed in b}


def _check_questions(a: Values, b: Values) -> None:
    left, right = ({(name, id_) for name, ids in side.items() for id_ in ids} for side in (a, b))
    if unpaired := left ^ right:
        example = min(unpaired)
        raise DataError(
            f"Expected both arms to answer the same questions, got {len(unpaired)} ids that only one of them answered "
            f"(such as {example[1]!r} of {example[0]!r}); finish the interrupted run, or compare what both have."
        )
