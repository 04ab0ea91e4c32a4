"""Which part of a configuration is a language model's, and which of transformers' automatic classes makes it."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

from .family_table import no_images


def that_answers(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of the part that answers in text: of a model that speaks, too (Qwen3-Omni), its thinker."""
    inside: PreTrainedConfig | None = getattr(config, "thinker_config", None)
    if inside is None:
        return config
    inside.dtype = inside.dtype or config.dtype
    return inside


def language_model_class(config: PreTrainedConfig) -> Any:
    """The class whose ``from_config`` and ``from_pretrained`` make the model.

    Some families have no causal language model of their own, but one that reads images, too (step3p7, glm4v_moe); given
    no image, it is one. Of those that have both, it is taken where images are known to work.
    """
    plain, reading = AutoModelForCausalLM, AutoModelForImageTextToText
    reads = type(config) in reading._model_mapping
    return (
        reading if reads and (type(config) not in plain._model_mapping or not no_images(config.model_type)) else plain
    )
