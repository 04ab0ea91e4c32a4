"""Llama 4 with images, for transformers 5.24: its forward pass reads ``image_outputs`` of what its language model
returns, which has none, and ends in an AttributeError (models/llama4/modeling_llama4.py).

Importing this module registers the model with that read answered by None.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from torch import nn
from transformers import AutoModelForImageTextToText, Llama4Config
from transformers import Llama4ForConditionalGeneration as Broken
from transformers.modeling_outputs import MoeCausalLMOutputWithPast


class Llama4ForConditionalGeneration(Broken):
    """As it is in transformers, but that it can be run."""

    @wraps(Broken.forward)
    def forward(self, *args: Any, **named: Any) -> Any:  # type: ignore[override]  # the same arguments, by wraps
        hook = self.language_model.register_forward_hook(_with_none)
        try:
            return super().forward(*args, **named)
        finally:
            hook.remove()


def _with_none(module: nn.Module, args: Any, output: MoeCausalLMOutputWithPast | tuple[Any, ...]) -> None:
    if not isinstance(output, tuple):
        output.image_outputs = None


AutoModelForImageTextToText.register(Llama4Config, Llama4ForConditionalGeneration, exist_ok=True)
