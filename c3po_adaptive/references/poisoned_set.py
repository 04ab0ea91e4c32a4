"""Reference sets under other labels: a model's pathways do not depend on them, so nothing is run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..storage.identity import digest
from ..types import Question
from .card import SetCard
from .reference_set import ReferenceSet


def relabeled(sets: Sequence[ReferenceSet], questions: Sequence[Question]) -> ReferenceSet:
    """Sets of one model one after the other, with the right choices that ``questions`` say, in their order.

    Args:
        sets: whose questions these are, but for their right choices.
        questions: in the same order.
    """
    first = sets[0]
    scores = tuple(row for one in sets for row in one.scores)
    chosen = torch.tensor([torch.tensor(row).argmax() for row in scores])
    correct = chosen == torch.tensor([q.answer for q in questions])
    rate = float(correct.float().mean())
    card: SetCard = {
        **first.card,
        "source": digest([q.row() for q in questions]),
        "questions": len(questions),
        "successes": int(correct.sum()),
        "success_rate": rate,
    }
    return replace(
        first,
        questions=tuple(questions),
        embeddings=torch.cat([one.embeddings for one in sets]),
        pathways=torch.cat([one.pathways for one in sets]),
        scores=scores,
        correct=correct,
        card=card,
    )
