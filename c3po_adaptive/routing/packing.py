"""Pack what follows the prompt of a question into one row of tokens: the tail.

The tail is the prompt's last token and then every option's tokens, all options side by side. A tree-shaped attention
mask keeps options from seeing each other, so the prompt's last token is computed once however many options there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import Prompt


@dataclass(frozen=True, eq=False)
class Packed:
    """The tail of one question.

    Attributes:
        tokens: ``[S]``. positions: ``[S]``. visible: ``[S, S]`` bool, who attends to whom inside the tail.
        option: ``[M]`` option of each scored token. row: ``[M]`` tail row that predicts it. target: ``[M]`` the token.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    option: Tensor
    row: Tensor
    target: Tensor


def pack(prompt: Prompt) -> Packed:
    """Lay out a prompt's tail; the last token of an option predicts nothing and is left out."""
    past = len(prompt.ids) - 1
    tokens, positions, parents = [prompt.ids[-1]], [past], [-1]
    option, row, target = [], [], []
    for c, continuation in enumerate(prompt.options):
        here = 0
        for depth, token in enumerate(continuation):
            option.append(c)
            row.append(here)
            target.append(token)
            if depth < len(continuation) - 1:
                parents.append(here)
                here = len(tokens)
                tokens.append(token)
                positions.append(past + depth + 1)
    visible = torch.eye(len(tokens), dtype=torch.bool)
    for child, parent in enumerate(parents[1:], start=1):
        visible[child] |= visible[parent]
    return Packed(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        visible=visible,
        option=torch.tensor(option, dtype=torch.long),
        row=torch.tensor(row, dtype=torch.long),
        target=torch.tensor(target, dtype=torch.long),
    )
