"""Prefix tuning: keys and values before every prompt, in each layer, by PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import ModelError
from ._virtual import Virtual

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.routed import RoutedModel
    from ..types import Prompt
    from ._tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class PrefixTuning(Virtual):
    """Keys and values that every layer sees before every prompt, trained on references (Li & Liang 2021, arXiv
    2101.00190).

    They start as those of the first tokens of references' prompts, which the paper finds best with few labels, and are
    trained themselves, without the paper's network that makes them.

    Attributes:
        tokens: how many tokens they stand for.
    """

    name: ClassVar[str] = "prefix-tuning"

    def tuning(self, model: RoutedModel, prompts: Sequence[Prompt]) -> Tuning:
        import torch
        from peft import PrefixTuningConfig, TaskType

        from ._openings import Prefix
        from ._tuning import Tuning

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
        opening = Prefix(self.tokens, model.max_length, wrapper.get_prompt)
        return Tuning({"embedding": trained}, lambda: nullcontext(opening))


def _keys_and_values(model: RoutedModel, ids: Tensor) -> list[Tensor]:
    """``[heads, n, size]`` the model's own of n tokens: each layer's keys, then its values.

    Raises:
        ModelError: layers keep something else.
    """
    import torch
    from transformers import DynamicCache

    from ..routing.packing import NO_CACHE, PLAIN
    from ..routing.sites import decoder_of
    from ..routing.tail import cache_argument

    config = model.model.config.get_text_config()
    cache: Any = DynamicCache(config=model.model.config)
    if config.model_type in NO_CACHE or not all(type(layer) in PLAIN for layer in cache.layers):
        raise ModelError(
            f"prefix-tuning cannot be used on the family {config.model_type}: it needs layers that keep keys and "
            "values, and some of its keep a state of another kind; use lora, router-tuning or prompt-tuning."
        )
    with torch.no_grad():
        decoder_of(model.model)(input_ids=ids[None], use_cache=True, **{cache_argument(model.model): cache})
    return [tensor[0] for layer in cache.layers for tensor in (layer.keys, layer.values)]
