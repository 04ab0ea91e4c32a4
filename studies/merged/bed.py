"""The bed that cases are made of: the embedded model, its other seed, or its sister."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from embedded_model.make import donor
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from c3po_adaptive.models.embedded.builder import build


@dataclass(frozen=True, eq=False)
class Bed:
    """A stock checkpoint whose experts are known, and the dense model that they stand beside.

    Attributes:
        folder: of the checkpoint; None: the embedded model.
        kinds: folder with ``KIND.train.jsonl`` of every learned kind.
    """

    kinds: Path
    folder: Path | None = None

    @cached_property
    def path(self) -> Path:
        return build() if self.folder is None else self.folder

    @cached_property
    def dense(self) -> LlamaForCausalLM:
        return donor(None)[0]

    @cached_property
    def tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self.path)

    def model(self) -> Any:
        """Anew each time: a case writes into it."""
        return AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32).eval().requires_grad_(False)


def layers_of(model: Any) -> list[int]:
    """Decoder layers with experts."""
    return [i for i, layer in enumerate(model.model.layers) if hasattr(layer.mlp, "experts")]


@torch.no_grad()
def with_rows(model: Any, rows: Mapping[int, Tensor]) -> Any:
    """The model with these rows ``[E, H]`` in its routers, by layer."""
    for layer, new in rows.items():
        model.model.layers[layer].mlp.gate.weight.copy_(new)
    return model
