"""Everything of a sample that ω cannot change, computed once and kept: what tail recomputation starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..types import Prompt
from .packing import Packed


@dataclass(frozen=True, eq=False)
class State:
    """A prefilled sample.

    Attributes:
        prompt, packed: the tokens.
        keys, values: per decoder layer from the first MoE layer on, ``[heads, T - 1, dim]`` of the prompt before its
            last token.
        entry: ``[L, S, H]`` hidden states of the tail where they enter each MoE layer's decoder layer.
        own: ω0 ``[L, E]`` at the prompt's last token. router: ``[L, E]`` the router's probabilities there.
        token_scores: ``[M]`` log-likelihoods of the scored tokens along the model's own pathway.
        hidden: ``[T, H]`` final hidden states of a raw text; None for a question, of which only the tail is ever
            scored.
        flops: what the prefill took.
    """

    prompt: Prompt
    packed: Packed
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    entry: Tensor
    own: Tensor
    router: Tensor
    token_scores: Tensor
    hidden: Tensor | None
    flops: float

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors it holds, which a byte budget counts."""
        kept = (*self.keys, *self.values, self.entry, self.own, self.router, self.token_scores, self.hidden)
        return sum(t.nbytes for t in kept if t is not None)


def normalised(state: State, tokens: Tensor) -> Tensor:
    """Score of each choice ``[C]``: the sum of its tokens' log-likelihoods ``tokens [M]`` over its length."""
    lengths = torch.tensor(state.prompt.lengths).to(tokens.device)
    sums = tokens.new_zeros(len(lengths)).index_add(0, state.packed.option.to(tokens.device), tokens)
    return sums / lengths


@dataclass(frozen=True, eq=False)
class Batch:
    """States side by side: prompts padded on the left, tails on the right.

    Attributes:
        keys, values: per kept decoder layer ``[B, heads, P, dim]``. entry: ``[L, B, S, H]``.
        positions: ``[B, S]``. mask: ``[B, 1, S, P + S]`` added to attention scores. real: ``[B, S]`` bool, no padding.
        predicting: ``[U]`` the rows ``b * S + s`` that predict a scored token: only these pass the head.
        at, target, sample, option: ``[M]`` for each scored token, which of U rows predicts it, the token, and whose.
        lengths: ``[B, C]`` what log-likelihoods are divided by; inf where a sample has fewer options.

    What enters the model is on its device; ``real``, ``sample``, ``option`` and ``lengths`` are on the CPU, as scores.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    entry: Tensor
    positions: Tensor
    mask: Tensor
    real: Tensor
    predicting: Tensor
    at: Tensor
    target: Tensor
    sample: Tensor
    option: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return self.positions.shape[0]

    def choice_scores(self, token_scores: Tensor) -> Tensor:
        """Normalised log-likelihood of each choice ``[B, C]`` (-inf where there is none) of ``token_scores [M]``."""
        n, c = self.lengths.shape
        sums = token_scores.new_zeros(n * c).index_add(0, self.sample * c + self.option, token_scores).view(n, c)
        return (sums / self.lengths).masked_fill(self.lengths.isinf(), -torch.inf)


def attention_mask(visible: Sequence[Tensor], past: Sequence[int], dtype: torch.dtype) -> Tensor:
    """``[B, 1, S, P + S]``: every tail row sees its own prompt (padded on the left) and its ancestors in the tail."""
    width, rows = max(past), max(len(v) for v in visible)
    seen = torch.zeros(len(visible), rows, width + rows, dtype=torch.bool)
    for b, (tree, length) in enumerate(zip(visible, past, strict=True)):
        seen[b, :, width - length : width] = True
        seen[b, : len(tree), width : width + len(tree)] = tree
        seen[b, range(len(tree), rows), range(width + len(tree), width + rows)] = True  # padding sees itself: no NaN
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def collate(states: Sequence[State]) -> Batch:
    """Lay states side by side."""
    packed = [s.packed for s in states]
    past = [len(s.prompt.ids) - 1 for s in states]
    rows = max(len(p.tokens) for p in packed)
    choices = max(1, *(len(s.prompt.options) for s in states))
    lengths = torch.full((len(states), choices), torch.inf)
    for b, state in enumerate(states):
        lengths[b, : len(state.prompt.lengths)] = torch.tensor(state.prompt.lengths, dtype=torch.float)
    entry = torch.stack([torch.nn.functional.pad(s.entry, (0, 0, 0, rows - s.entry.shape[1])) for s in states], 1)
    positions = pad_sequence([p.positions for p in packed], batch_first=True)
    device = entry.device
    mask = attention_mask([p.visible for p in packed], past, entry.dtype)
    real = pad_sequence([torch.ones(len(p.tokens), dtype=torch.bool) for p in packed], batch_first=True)
    sample = torch.cat([torch.full_like(p.row, b) for b, p in enumerate(packed)])
    row, target, option = (torch.cat([getattr(p, name) for p in packed]) for name in ("row", "target", "option"))
    predicting, at = (sample * rows + row).unique(return_inverse=True)
    return Batch(
        keys=_stack_left([s.keys for s in states], max(past)),
        values=_stack_left([s.values for s in states], max(past)),
        entry=entry,
        positions=positions.to(device),
        mask=mask.to(device),
        real=real,
        predicting=predicting.to(device),
        at=at.to(device),
        target=target.to(device),
        sample=sample,
        option=option,
        lengths=lengths,
    )


def _stack_left(layers: Sequence[tuple[Tensor, ...]], width: int) -> tuple[Tensor, ...]:
    pad = torch.nn.functional.pad
    return tuple(
        torch.stack([pad(t, (0, 0, width - t.shape[1], 0)) for t in tensors]) for tensors in zip(*layers, strict=True)
    )
