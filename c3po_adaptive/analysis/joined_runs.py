"""Several runs joined: as draws of one table, or as a pair that is compared arm by arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import DataError
from ..records.answer import Answered
from ..records.setting import Setting
from . import statistics as stats
from .unfinished_run import whole_draws

Pair = tuple[list[Answered], list[Answered]]


@dataclass(frozen=True)
class Run:
    """A run, or a part of one.

    Attributes:
        name: what messages call it.
        records: what its arms answered.
        draw: runs of one draw, such as a data set each, stand in one table. Another draw answers the same questions
            with other references, or with another carving of the model.
    """

    name: str
    records: Sequence[Answered]
    draw: str = ""


def as_draws(runs: Sequence[Run]) -> list[Answered]:
    """All records in one table, each with the number of its draw (``run``).

    Intervals are then over draws, too (see ``crossed``). The draw of the first run is the first. An arm that several
    runs have in common, as a base is, counts once.

    Raises:
        DataError: an arm answered a question of a data set twice in a draw, and not the same, or by other settings; or
            an id stands for two questions.
    """
    _check_questions(runs)
    numbers: dict[str, int] = {}
    seen: dict[tuple[int, str, str, str, int], tuple[int, int, Setting]] = {}
    found = []
    for place, run in enumerate(runs):
        number = numbers.setdefault(run.draw, len(numbers))
        for record in run.records:
            key = number, record.dataset, record.arm, record.id, record.seed
            before, choice, setting = seen.setdefault(key, (place, record.choice, record.setting))
            if before == place:
                found.append(record.model_copy(update={"run": number}))
            elif (choice, setting) != (record.choice, record.setting):
                raise DataError(
                    f"Expected one answer to a question from each arm, got two to {record.id!r} of "
                    f"{record.dataset!r} by {record.arm!r}, in {runs[before].name} and in {run.name}, of which "
                    f"{'settings' if setting != record.setting else 'choices'} differ; name draws, or leave one of "
                    "them out."
                )
    return found


def paired(a: Run, b: Run) -> dict[str, Pair]:
    """By arm what both runs answered; of an arm's draws those that went as far as its first.

    Raises:
        DataError: no arm of the same name answered the same question in both, or an id stands for two questions.
    """
    arms = [by_arm(whole_draws(run.records)) for run in (a, b)]
    pairs = {arm: stats.on_common_questions(own, arms[1][arm]) for arm, own in arms[0].items() if arm in arms[1]}
    found = {arm: pair for arm, pair in pairs.items() if pair[0]}
    if not found:
        told = "; ".join(_answered(run) for run in (a, b))
        raise DataError(
            "Expected two runs that share questions (data set and id) along an arm of the same name, got none: "
            f"{told}; give runs on the same questions, with data sets and arms called alike."
        )
    _check_questions([a, b])
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


def _check_questions(runs: Sequence[Run]) -> None:
    """Ids may be made from a file's name: then other files have the same."""
    asked: dict[tuple[str, str], tuple[int, int]] = {}
    for r in (record for run in runs for record in run.records):
        own = r.answer, len(r.scores)
        answer, choices = asked.setdefault((r.dataset, r.id), own)
        if own != (answer, choices):
            raise DataError(
                f"Expected the same questions in both runs, got {r.id!r} of {r.dataset!r} with {choices} choices "
                f"(right: number {answer}) and with {len(r.scores)} (right: number {r.answer}); give runs on the "
                "same questions."
            )
