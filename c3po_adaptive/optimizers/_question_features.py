"""What the model knows of a question before it answers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SettingError
from ..problem import Problem, ReferenceArtifact, ReferenceBatch

FORM = 5  # the last of what is known


def known(own: Tensor, router_input: Tensor, scores: Tensor) -> Tensor:
    """``[N, H + L·E + 5]``, from ``own [N, L, E]``, ``router_input [N, L, H]`` and ``scores [N, C]`` along ω0.

    The hidden state that the first adapted layer's router reads, which no Δω has touched; the own pathway; and of the
    choices how many they are, how sure the model is (entropy over that of as many even ones, lead of the best over the
    mean) and how likely the best and the mean choice are.
    """
    return torch.cat([router_input[:, 0], own.flatten(1), form_of(scores).to(own)], -1)


def form_of(scores: Tensor) -> Tensor:
    """``[N, 5]`` of ``scores [N, C]``: the log of how many choices there are, the entropy over that of as many even
    ones, the lead of the best over the mean, the best, and the mean.

    Raises:
        SettingError: the samples are raw texts.
    """
    if scores.shape[1] == 0:
        raise SettingError("Expected questions with choices to tell what is known of them, got raw text; give choices.")
    real = scores.isfinite()
    count = real.sum(-1).clamp_min(1)
    mean, best = scores.where(real, 0.0).sum(-1) / count, scores.amax(-1)
    logs = scores.log_softmax(-1)
    entropy = -(logs.exp() * logs.where(real, 0.0)).sum(-1) / count.clamp_min(2).log()
    return torch.stack([count.log(), entropy, best - mean, best, mean], -1)


def known_of(problem: Problem) -> Tensor:
    """``[B, F]`` of a problem's questions."""
    return known(problem.own, problem.router_input, problem.own_scores)


def parts(raw: Tensor, state: int) -> dict[str, NDArray[np.floating]]:
    """What is known, ``raw [N, F]``, by part: ``state`` numbers of the hidden state, the pathway, and the form."""
    values = raw.detach().cpu().numpy()
    return {"state": values[:, :state], "pathway": values[:, state:-FORM], "form": values[:, -FORM:]}


def _known_and_loss(references: ReferenceBatch) -> Tensor:
    found = known(references.own, references.router_input, references.own_scores)
    return torch.cat([found, references.own_loss[:, None].to(found)], -1)


KNOWN_AND_LOSS = ReferenceArtifact("known and loss", _known_and_loss)
"""``[N, F + 1]`` what is known of each reference, and its loss at its own pathway; in one, as both take a reference's
prefill and nothing beyond it."""
