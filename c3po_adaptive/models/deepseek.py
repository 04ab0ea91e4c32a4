"""DeepSeekMoE-16B (arXiv 2401.06066) for transformers 5, without remote code.

Its ``model_type``, "deepseek", has no class in transformers. It is Llama with other feed-forward layers: behind a first
dense one, each mixes routed experts by greedy softmax routing without renormalization, and adds shared experts without
a gate (equations 9 to 11). Importing this module registers the configuration, the model, and how its checkpoints, whose
experts are separate matrices, are read and written.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import initialization as init
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaModel, LlamaPreTrainedModel
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeExperts


class DeepseekConfig(LlamaConfig):
    """The configuration as deepseek-ai publishes it: two numbers say which layers are sparse."""

    model_type = "deepseek"
    attribute_map: ClassVar[dict[str, str]] = {"num_experts": "n_routed_experts"}
    moe_intermediate_size: int = 1408
    n_routed_experts: int = 64
    n_shared_experts: int = 2
    num_experts_per_tok: int = 6
    first_k_dense_replace: int = 1
    moe_layer_freq: int = 1
    norm_topk_prob: bool = False
    scoring_func: str = "softmax"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.norm_topk_prob or self.scoring_func != "softmax":
            raise ValueError(
                "Expected a deepseek checkpoint that routes by softmax without renormalization, as the released ones "
                f"do, got norm_topk_prob={self.norm_topk_prob} and scoring_func={self.scoring_func!r}."
            )
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    def sparse(self, layer: int) -> bool:
        """Whether decoder layer number ``layer`` has experts."""
        return layer >= self.first_k_dense_replace and layer % self.moe_layer_freq == 0


class DeepseekRouter(nn.Module):
    """From hidden states ``[R, H]`` to logits ``[R, E]``, and weights and indices ``[R, k]`` of the top experts."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = nn.functional.linear(hidden, self.weight)
        weights, index = logits.softmax(-1, dtype=torch.float).topk(self.top_k, dim=-1)
        return logits, weights.to(hidden.dtype), index


class DeepseekMoE(nn.Module):
    """Routed experts, mixed, and shared ones."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__()
        self.gate = DeepseekRouter(config)
        self.experts = Qwen2MoeExperts(config)
        self.shared_experts = LlamaMLP(config)
        width = config.n_shared_experts * config.moe_intermediate_size
        for name in ("gate_proj", "up_proj"):
            setattr(self.shared_experts, name, nn.Linear(config.hidden_size, width, bias=False))
        self.shared_experts.down_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        rows = hidden_states.flatten(0, -2)
        _, weights, index = self.gate(rows)
        mixed: Tensor = self.experts(rows, index, weights) + self.shared_experts(rows)
        return mixed.view_as(hidden_states)


class _Deepseek(LlamaPreTrainedModel):
    """What the decoder and the whole model share."""

    config_class = DeepseekConfig

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, DeepseekRouter | Qwen2MoeExperts):
            for parameter in module.parameters(recurse=False):
                init.normal_(parameter, std=self.config.initializer_range)

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # transformers looks for a decorator in this file; it is in that of the experts


class DeepseekModel(_Deepseek, LlamaModel):
    """Llama's decoder with a mixture of experts in its sparse layers."""

    def __init__(self, config: DeepseekConfig) -> None:
        super().__init__(config)
        for i, layer in enumerate(self.layers):
            if config.sparse(i):
                layer.mlp = DeepseekMoE(config)
        self.post_init()  # type: ignore[no-untyped-call]


class DeepseekForCausalLM(_Deepseek, LlamaForCausalLM):
    """The decoder with its language-model head."""

    def __init__(self, config: DeepseekConfig) -> None:
        LlamaPreTrainedModel.__init__(self, config)  # Llama's own would make a dense decoder first
        self.model = DeepseekModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]


AutoConfig.register("deepseek", DeepseekConfig)
AutoModelForCausalLM.register(DeepseekConfig, DeepseekForCausalLM)
register_checkpoint_conversion_mapping("deepseek", get_checkpoint_conversion_mapping("qwen2_moe"))
