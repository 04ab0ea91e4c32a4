"""What baselines learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answerers.base import Bench
from ..errors import SettingError

if TYPE_CHECKING:
    from ..references.reference_set import ReferenceSet

FEWEST = 10  # references that it makes sense to learn from


def references_of(bench: Bench, name: str) -> ReferenceSet:
    """The bench's references, for the answerer of that name.

    Raises:
        SettingError: there are none.
        DataError: they are of another model, format or embedder.
    """
    if bench.references is None:
        raise SettingError(f"{name} expected references, got none; name some in the data set.")
    bench.references.check(bench.model, bench.format, bench.embedder)
    return bench.references


def check_count(name: str, count: int) -> None:
    """Refuse to fit or train on fewer than ``FEWEST`` references.

    Raises:
        SettingError: there are fewer.
    """
    if count < FEWEST:
        raise SettingError(
            f"{name} expected at least {FEWEST} references that are not asked themselves, got {count}; name more in "
            "the data set."
        )


def finding_successes(bench: Bench, references: ReferenceSet) -> float:
    """FLOPs of finding out which references the model answers right; none where all of them may be neighbours."""
    if bench.settings.learn_from == "all":
        return 0.0
    return sum(bench.model.plain_work(prompt).flops for prompt in bench.prompts(references.questions))
