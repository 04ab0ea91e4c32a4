"""What an answer costs when what was spent once, before the first, is shared by all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUESTIONS = tuple(10**k for k in range(7))
"""From a single question to a million."""


def cost_over(row: Mapping[str, Any], questions: float) -> float:
    """Base forwards a question: the answer's own, and its share of what its references, gradients or training took.

    Args:
        row: of a summary, of records that say what was spent once.
        questions: how many are asked.
    """
    return float(row["cost"]["total"] + row["cost"]["once"] / questions)
