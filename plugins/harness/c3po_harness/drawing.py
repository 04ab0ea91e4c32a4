"""Tokens that are drawn, for each text as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from c3po_adaptive.types import Prompt, draw_key

SMALLEST, LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
"""Temperatures: below there is 0/0, beyond inf/inf."""


class Drawing(LogitsProcessor):
    """Makes of the likeliest token of each row one that is drawn, by Gumbel noise on log-probabilities (Gumbel 1954;
    Maddison, Tarlow and Minka 2014, arXiv 1411.0030).

    Each row has a generator of its own, of seed and prompt: what is drawn for it depends neither on its neighbours in
    the batch, nor on what was drawn before. transformers' own sampling draws for a batch as a whole.

    Args:
        temperature: above 0.
        prompts: of each row.
        seed: None: noise of torch's global generator, other each time.
        top_p: share of probability that is drawn from.
        top_k: how many tokens are drawn from; 0: all.
    """

    def __init__(self, temperature: float, prompts: Sequence[Prompt], seed: int | None, top_p: float, top_k: int):
        self.temperature = min(max(temperature, SMALLEST), LARGEST)
        self.drawn_from = LogitsProcessorList()
        if top_k:
            self.drawn_from.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self.drawn_from.append(TopPLogitsWarper(top_p))
        self.generators = [
            None if seed is None else torch.Generator().manual_seed(draw_key(seed, prompt)) for prompt in prompts
        ]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores = (scores - scores.max(-1, keepdim=True).values) / self.temperature
        noise = torch.stack([_gumbel(scores.shape[1], generator) for generator in self.generators])
        return self.drawn_from(input_ids, scores) + noise.to(scores)


def _gumbel(size: int, generator: torch.Generator | None) -> Tensor:
    drawn = torch.empty(size).exponential_(generator=generator)  # on the CPU: the same for every device
    return -drawn.clamp_min(torch.finfo(drawn.dtype).tiny).log()
