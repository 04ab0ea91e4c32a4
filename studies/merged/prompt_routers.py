"""Routers made of prompts, by ``mergekit-moe``'s own code (arcee-ai/mergekit, ``mergekit/moe/router.py``): in each
layer an expert's row is what the base model has there on the expert's prompts, scaled to length one. No training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer

from c3po_adaptive.errors import ArtifactError

Mode = Literal["hidden", "hidden_avg", "cheap_embed", "random"]
"""The last token's hidden state, the mean over tokens, the mean input embedding (the same row in all layers), noise."""


def rows_of_prompts(
    dense: Any,
    tokenizer: Any,
    positive: Mapping[str, Sequence[str]],
    negative: Mapping[str, Sequence[str]] | None,
    mode: Mode,
    seed: int,
) -> Tensor:
    """``[layers, E, H]`` rows of every layer's router, as ``mergekit-moe`` computes them.

    Args:
        dense: the base model.
        tokenizer: its own.
        positive: prompts by expert.
        negative: the same of what it is not good at; None: none.
        mode: which hidden state.
        seed: of ``random``.

    Raises:
        ArtifactError: mergekit is not installed.
    """
    try:
        from mergekit.common import ModelReference
        from mergekit.moe.config import Expert
        from mergekit.moe.router import get_gate_params
    except ImportError as error:
        raise ArtifactError(f"Expected mergekit, which is not installed ({error}); pip install mergekit.") from error
    with tempfile.TemporaryDirectory() as folder:
        dense.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        base = ModelReference.model_validate(folder)
        experts = [
            Expert(
                source_model=base,
                positive_prompts=list(texts),
                negative_prompts=None if negative is None else list(negative[name]),
            )
            for name, texts in positive.items()
        ]
        torch.manual_seed(seed)
        found: Tensor = get_gate_params(base, _as_merging(folder), experts, mode=mode, device="cpu")
    return found.float()


def _as_merging(folder: str) -> Any:
    """A tokenizer that pads as the tool pads: on the left, with the token that texts begin with."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.pad_token_id = tokenizer.bos_token_id
    return tokenizer
