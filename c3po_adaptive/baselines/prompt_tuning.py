"""Prompt tuning: virtual tokens before every prompt, by PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._virtual import Virtual

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..types import Prompt
    from ._tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class PromptTuning(Virtual):
    """Embeddings of virtual tokens, trained on references (Lester et al. 2021, arXiv 2104.08691).

    They start as the embeddings of the first tokens of references' prompts.

    Attributes:
        tokens: how many there are.
    """

    name: ClassVar[str] = "prompt-tuning"

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        import torch
        from peft import PromptTuningConfig, TaskType

        from ._openings import VirtualTokens
        from ._tuning import Tuning

        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=self.tokens)
        wrapper = self.wrapped(model, config)
        trained = wrapper.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            trained.copy_(model.model.get_input_embeddings()(self.first_tokens(model, prompts)))
        opening = VirtualTokens(self.tokens, model.max_length, lambda: wrapper.get_prompt(1)[0])
        return Tuning({"embedding": trained}, lambda: nullcontext(opening))
