"""What an answer costs when what was spent once, before the first, is shared by all."""

from __future__ import annotations

from ..records.summary import RowCost

QUESTIONS = tuple(10 ** (k / 8) for k in range(49))
"""From a single question to a million."""


def cost_over(cost: RowCost, questions: float) -> float:
    """Base forwards a question: the answer's own, and its share of what its references, gradients or training took.

    Args:
        cost: of an arm.
        questions: how many are asked.
    """
    return cost.total + (cost.once or 0.0) / questions
