"""Losses of choice scores: what optimizers descend and selectors attribute."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .errors import SettingError
from .types import Target


def right_answer_loss(scores: Tensor, answers: Tensor, target: Target) -> Tensor:
    """Loss ``[R]`` of the right choices ``answers [R]`` under ``scores [R, C]``."""
    if target == "likelihood":
        return -scores.gather(1, answers[:, None]).squeeze(1)
    return F.cross_entropy(scores, answers, reduction="none")


def entropy(scores: Tensor) -> Tensor:
    """Entropy ``[R]`` in nats of the distribution over choices."""
    logs = scores.log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(logs.isinf(), 0.0)).sum(-1)


def margin(scores: Tensor, before: Tensor) -> Tensor:
    """``[R]`` lead in log-likelihood, under ``scores [R, C]``, of the best choice under ``before [R, C]`` over the
    second.

    Raises:
        SettingError: only one choice.
    """
    if before.shape[1] < 2 or before.isfinite().sum(1).min() < 2:
        raise SettingError("Expected questions of two choices or more to take a margin of, got one choice.")
    best = before.topk(2).indices
    leading, second = scores.gather(1, best).unbind(1)
    return leading - second
