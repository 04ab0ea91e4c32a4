"""What an answer has to do with the truth of the fault that was planted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from c3po_adaptive import Answer, FaultTruth
from c3po_adaptive.study import AnswerRecord

from .planting import SAME

Floats = NDArray[np.float64]


class FaultAnswer(AnswerRecord):
    """the record of an answer of a faulty model

    Attributes:
        concerned: whether the fault changed what its last token is routed by.
        cosine: of Δω and the true one; None: there is nothing to compare.
        expert_precision: share of the experts whose weight changed that the fault is in, layer by layer; None: none.
        expert_recall: share of the experts that the fault is in whose weight changed; None: it is in none.
        scored: what the selector gave each layer.
    """

    concerned: bool
    cosine: float | None
    expert_precision: float | None
    expert_recall: float | None
    scored: tuple[float, ...]


def told(record: AnswerRecord, answer: Answer, truth: FaultTruth, b: int, own: Tensor) -> FaultAnswer:
    """Sample b's record.

    Args:
        record: of the answer.
        answer: to the sample.
        truth: of its batch.
        b: its place there.
        own: ``[B, L, E]`` the faulty model's own pathways.
    """
    wanted = truth.sound[b] - own[b]
    used = None if answer.pathway is None else answer.pathway.used
    changed = torch.zeros_like(wanted) if used is None else used.router - used.own
    total = own[b].sum(-1, keepdim=True)
    theirs, mine = (((change / total).abs() > SAME) for change in (wanted, changed))
    both, count, planted = (int(x.sum()) for x in (theirs & mine, mine, theirs))
    length = float(wanted.norm() * changed.norm())
    return FaultAnswer(
        **dict(record),
        concerned=planted > 0,
        cosine=float(f"{(wanted * changed).sum() / length:.5g}") if planted and count else None,
        expert_precision=both / count if planted and count else None,
        expert_recall=both / planted if planted else None,
        scored=tuple(float(f"{score:.5g}") for score in answer.layer_scores),
    )


def area_under_curve(scores: Floats, broken: NDArray[np.bool_]) -> Floats:
    """``[N]`` the chance that a broken layer scores above a sound one, equal ones counted half; scores ``[N, L]``,
    broken ``[L]``, neither all nor none of them."""
    above = scores[:, broken, None] - scores[:, None, ~broken]
    area: Floats = ((above > 0) + 0.5 * (above == 0)).mean((1, 2))
    return area
