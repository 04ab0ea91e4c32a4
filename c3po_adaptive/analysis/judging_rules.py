"""Which rules a run is judged by: they belong to its protocol, and may change after it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..storage.identity import digest, digest_of_file

FILES = (
    *("verdict", "power", "matching_controls", "statistics", "crossed", "over_kinds", "chance"),
    *("arm_comparisons", "repeated_controls", "paired"),
)
"""Of this folder: those that decide p, intervals, corrections, controls and verdicts."""


@cache
def rules() -> str:
    """A short hash of the files that judge."""
    return digest([digest_of_file(Path(__file__).with_name(f"{name}.py")) for name in FILES])[:12]


def changed_since(judged_by: object) -> str | None:
    """That a run was judged by other rules than those of now, in one line; None: it was not.

    Args:
        judged_by: ``rules`` of then, as its summary has it; None: it has none.
    """
    if judged_by == rules():
        return None
    then = f"by rules {judged_by}" if judged_by else "before rules were recorded"
    return f"rules changed since: its verdicts were made {then}, those of now are {rules()}"
