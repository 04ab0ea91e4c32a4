"""DeepSeekMoE-16B (arXiv 2401.06066) for transformers 5, without remote code.

Its ``model_type``, "deepseek", has no class in transformers, but the text decoder of DeepSeek-OCR-2 is the same
architecture: Llama attention, a dense first layer, greedy softmax routing without renormalisation, shared experts
without a gate. This module adds the configuration's old names and the head. Importing it registers both.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.deepseek_ocr2.configuration_deepseek_ocr2 import DeepseekOcr2TextConfig
from transformers.models.deepseek_ocr2.modeling_deepseek_ocr2 import (
    DeepseekOcr2TextModel,
    DeepseekOcr2TextPreTrainedModel,
)


class DeepseekConfig(DeepseekOcr2TextConfig):
    """The configuration as deepseek-ai publishes it: which layers are sparse is told by two numbers."""

    model_type = "deepseek"
    base_config_key = ""
    first_k_dense_replace: int = 1
    moe_layer_freq: int = 1
    norm_topk_prob: bool = False
    scoring_func: str = "softmax"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.norm_topk_prob or self.scoring_func != "softmax":
            raise ValueError(
                "Expected a deepseek checkpoint that routes by softmax without renormalisation, as the released ones "
                f"do, got norm_topk_prob={self.norm_topk_prob} and scoring_func={self.scoring_func!r}."
            )
        self.mlp_layer_types = [
            "sparse" if i >= self.first_k_dense_replace and i % self.moe_layer_freq == 0 else "dense"
            for i in range(self.num_hidden_layers)
        ]
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]


class DeepseekForCausalLM(DeepseekOcr2TextPreTrainedModel, GenerationMixin):
    """The decoder with its language-model head."""

    config_class = DeepseekConfig
    _tied_weights_keys: dict[str, str] = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 (as its base)

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__(config)
        self.model = DeepseekOcr2TextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # transformers looks for a decorator in this file; it is in that of the decoder

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits ``[B, T, V]``; ``logits_to_keep`` last ones only, if given."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(logits=self.lm_head(output.last_hidden_state[:, kept]), cache=output.cache)


AutoConfig.register("deepseek", DeepseekConfig)
AutoModelForCausalLM.register(DeepseekConfig, DeepseekForCausalLM)
register_checkpoint_conversion_mapping("deepseek", get_checkpoint_conversion_mapping("qwen2_moe"))
