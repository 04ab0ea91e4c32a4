"""Two runs paired, arm by arm, on the questions that both answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from c3po_adaptive.analysis import on_common_questions, whole_draws
from c3po_adaptive.errors import DataError
from c3po_adaptive.study import Answered

Pair = tuple[list[Answered], list[Answered]]


@dataclass(frozen=True)
class Run:
    """A run, or a part of one.

    Attributes:
        name: what messages call it.
        records: what its arms answered.
    """

    name: str
    records: Sequence[Answered]


def paired(a: Run, b: Run) -> dict[str, Pair]:
    """By arm what both runs answered; of an arm's draws those that went as far as its first.

    Raises:
        DataError: no arm of the same name answered the same question in both, or an id stands for two questions.
    """
    arms = [by_arm(whole_draws(run.records)) for run in (a, b)]
    pairs = {arm: on_common_questions(own, arms[1][arm]) for arm, own in arms[0].items() if arm in arms[1]}
    found = {arm: pair for arm, pair in pairs.items() if pair[0]}
    if not found:
        told = "; ".join(_answered(run) for run in (a, b))
        raise DataError(
            "Expected two runs that share questions (data set and id) along an arm of the same name, got none: "
            f"{told}; give runs on the same questions, with data sets and arms called alike."
        )
    check_questions([a, b])
    return found


def by_arm(records: Iterable[Answered]) -> dict[str, list[Answered]]:
    """Records of each arm."""
    arms: dict[str, list[Answered]] = {}
    for record in records:
        arms.setdefault(record.arm, []).append(record)
    return arms


def _answered(run: Run) -> str:
    ids = list(dict.fromkeys(f"{r.dataset}: {r.id}" for r in run.records))
    if not ids:
        return run.name
    arms = ", ".join(by_arm(run.records))
    return f"{run.name} has the arms {arms} on {len(ids)} questions, such as {ids[0]}"


def check_questions(runs: Sequence[Run]) -> None:
    """Refuse an id that stands for two questions, as one may that is made from a file's name.

    Raises:
        DataError: naming it.
    """
    asked: dict[tuple[str, str], tuple[int, int]] = {}
    for r in (record for run in runs for record in run.records):
        own = r.answer, len(r.scores)
        answer, choices = asked.setdefault((r.dataset, r.id), own)
        if own != (answer, choices):
            raise DataError(
                f"Expected the same questions in all runs, got {r.id!r} of {r.dataset!r} with {choices} choices "
                f"(right: number {answer}) and with {len(r.scores)} (right: number {r.answer}); give runs on the "
                "same questions."
            )
