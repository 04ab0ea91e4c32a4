"""The head's normalizer as a plane: the log of the sum that a likelihood is divided by, linear in the hidden state.

The normalizer takes the head over the whole vocabulary, which costs more than the layers that ω acts in where options
have several tokens. Small steps move a tail's final hidden states little, and around those of the model's own pathway
the plane is computed once (how good it is then: studies/agreement). The logits of scored tokens themselves stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .head import head

ROWS = 256  # tokens whose logits are held at a time


@dataclass(frozen=True, eq=False)
class Tangent:
    """Of U tokens.

    Attributes:
        hidden: ``[U, H]`` final hidden states along the model's own pathway.
        normalizer: ``[U]`` log Σ exp of their logits.
        slope: ``[U, H]`` its gradient there (of a linear head: its rows, averaged by probability).
    """

    hidden: Tensor
    normalizer: Tensor
    slope: Tensor

    def at(self, hidden: Tensor) -> Tensor:
        """The plane ``[U]`` at other hidden states ``[U, H]``; below a linear head's normalizer, which is convex."""
        return self.normalizer + ((hidden - self.hidden).float() * self.slope.float()).sum(-1)


@torch.enable_grad()
def plane(model: PreTrainedModel, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Normalizer ``[U]`` and its gradient ``[U, H]`` at ``hidden [U, H]``."""
    place = hidden.detach().requires_grad_()
    normalizer = head(model, place[None])[0].float().logsumexp(-1)
    (slope,) = torch.autograd.grad(normalizer.sum(), place)
    return normalizer.detach(), slope
