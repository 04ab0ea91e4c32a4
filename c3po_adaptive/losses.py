"""Losses of choice scores: what optimizers descend and selectors attribute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .types import LossName


def right_answer_loss(scores: Tensor, answers: Tensor, loss: LossName) -> Tensor:
    """Loss ``[R]`` of the right choices ``answers [R]`` under ``scores [R, C]``, as ``RemixSettings.loss`` says."""
    right = scores.gather(1, answers[:, None]).squeeze(1)
    if loss == "likelihood":
        return -right
    if loss == "lead":
        choices = scores.isfinite()
        return scores.where(choices, 0.0).sum(1) / choices.sum(1) - right
    return F.cross_entropy(scores, answers, reduction="none")


def entropy(scores: Tensor) -> Tensor:
    """Entropy ``[R]`` in nats of the distribution over choices."""
    logs = scores.log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(-1)


def margin(scores: Tensor, before: Tensor) -> Tensor:
    """``[R]`` lead in log-likelihood, under ``scores [R, C]``, of the best choice under ``before [R, C]`` over the
    second; zero where there is one choice only.
    """
    if before.shape[1] < 2:
        return (scores * 0).nan_to_num(0.0).sum(1)
    best = before.topk(2)
    leading, second = scores.gather(1, best.indices).unbind(1)
    several = best.values.isfinite().all(1)
    return torch.where(several, leading - torch.where(several, second, leading), 0 * leading)
