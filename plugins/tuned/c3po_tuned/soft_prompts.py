"""Tokens before every prompt that are no text, trained on references: virtual tokens, or keys and values (by PEFT)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar
from warnings import catch_warnings, simplefilter

import torch
from pydantic import PositiveInt
from torch import Tensor

from c3po_adaptive import ModelError, Prompt, SettingError

from .base import Trained, Tuning
from .exchange import unaltered

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel


@dataclass(frozen=True, kw_only=True)
class SoftPrompt(Trained):
    """Trains what stands in the place of ``tokens`` tokens before every prompt."""

    tokens: PositiveInt = 20
    lr: float = 1e-2

    def first_tokens(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tensor:
        """``[n]`` the first tokens of references' prompts, which virtual ones start as: text that the model knows.

        Raises:
            SettingError: there are not so many.
        """
        ids = list(islice(chain.from_iterable(prompt.ids for prompt in prompts), self.tokens))
        if len(ids) < self.tokens:
            raise SettingError(
                f"Expected {self.name}.tokens to be at most {len(ids)}, as many as the references' prompts have "
                f"together, got {self.tokens}; take fewer."
            )
        return torch.tensor(ids, device=model.model.device)

    @staticmethod
    def wrapped(model: RoutedModel, config: Any) -> Any:
        """PEFT's model of a configuration; the model itself stays as it is."""
        from peft import get_peft_model

        with unaltered(model.model), catch_warnings():
            simplefilter("ignore", FutureWarning)  # PEFT 0.21 asks transformers for what will be called otherwise
            return get_peft_model(model.model, config)


@dataclass(frozen=True, kw_only=True)
class PromptTuning(SoftPrompt):
    """Embeddings of virtual tokens, trained on references (Lester et al. 2021, arXiv 2104.08691).

    They start as the embeddings of the first tokens of references' prompts.

    Attributes:
        tokens: how many there are.
    """

    name: ClassVar[str] = "prompt-tuning"

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        from peft import PromptTuningConfig, TaskType

        from .prefixes import VirtualTokens

        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=self.tokens)
        wrapper = self.wrapped(model, config)
        trained = wrapper.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            trained.copy_(model.model.get_input_embeddings()(self.first_tokens(model, prompts)))
        opening = VirtualTokens(self.tokens, model.max_length, lambda: wrapper.get_prompt(1)[0])
        return Tuning({"embedding": trained}, lambda: nullcontext(opening))


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(SoftPrompt):
    """Keys and values that every layer sees before every prompt, trained on references (Li & Liang 2021, arXiv
    2101.00190).

    They start as those of the first tokens of references' prompts, which the paper finds best with few labels, and are
    trained themselves, without the paper's network that makes them.

    Attributes:
        tokens: how many tokens they stand for.
    """

    name: ClassVar[str] = "prefix-tuning"

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        from peft import PrefixTuningConfig, TaskType

        from .prefixes import SeenBefore

        own = _keys_and_values(model, self.first_tokens(model, prompts))
        config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=self.tokens)
        wrapper = self.wrapped(model, config)
        made = [tensor[0] for layer in wrapper.get_prompt(1).layers for tensor in (layer.keys, layer.values)]
        if [t.shape for t in made] != [t.shape for t in own]:
            family = model.model.config.get_text_config().model_type
            raise ModelError(
                f"prefix-tuning cannot be used on the family {family}: PEFT makes keys and values "
                f"{tuple(made[0].shape)} for {len(made) // 2} layers, and the model's own are "
                f"{' and '.join(sorted({str(tuple(t.shape)) for t in own}))} in {len(own) // 2}; use prompt-tuning, "
                "lora or router-tuning."
            )
        trained = wrapper.prompt_encoder["default"].embedding.weight
        with torch.no_grad():
            trained.copy_(torch.stack(own).permute(2, 0, 1, 3).flatten(1))
        opening = SeenBefore(self.tokens, model.max_length, wrapper.get_prompt)
        return Tuning({"embedding": trained}, lambda: nullcontext(opening))


def _keys_and_values(model: RoutedModel, ids: Tensor) -> list[Tensor]:
    """``[heads, n, size]`` the model's own of n tokens: each layer's keys, then its values.

    Raises:
        ModelError: layers keep something else.
    """
    from transformers import DynamicCache

    if not model.caches_keys:
        raise ModelError(
            f"prefix-tuning cannot be used on the family {model.model.config.get_text_config().model_type}: it needs "
            "layers that keep keys and values, and some of its keep a state of another kind; use lora, router-tuning "
            "or prompt-tuning."
        )
    with torch.no_grad():
        found = model.decoder(input_ids=ids[None], use_cache=True)
    cache: Any
    (cache,) = (part for part in found.values() if isinstance(part, DynamicCache))
    return [tensor[0] for layer in cache.layers for tensor in (layer.keys, layer.values)]
