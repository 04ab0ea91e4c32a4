"""What a configuration says of a language model: its part, its class, and how long texts may be."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from ..errors import DataError
from . import deepseek, llama4  # noqa: F401 (register families that transformers does not know, or not whole)
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

    Some families have no causal language model of their own, but one that reads images, too (step3p7, glm4v_moe);
    without an image, it is one. Of those that have both, it is taken where images are known to work.
    """
    plain, reading = AutoModelForCausalLM, AutoModelForImageTextToText
    reads = type(config) in reading._model_mapping
    return (
        reading if reads and (type(config) not in plain._model_mapping or not no_images(config.model_type)) else plain
    )


def context_of(config: PreTrainedConfig) -> int:
    """Tokens that a model was made for, those that it writes among them."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def longest_prompt(config: PreTrainedConfig) -> int:
    """The longest prompt with an option that is run.

    Rotary factors that change beyond a length ("longrope", "dynamic"), and llama4's temperature, would be settled by
    the longest sample of a batch: such models are limited to the length where they do not change.
    """
    text: Any = config.get_text_config()
    lengths = [context_of(config)]
    for rope in _ropes(text):
        if rope.get("rope_type") in ("longrope", "dynamic"):
            lengths.append(rope.get("original_max_position_embeddings") or lengths[0])
    if getattr(text, "attn_temperature_tuning", False):
        lengths.append(int(text.floor_scale) - 1)
    return int(min(lengths))


def check_ids(model: PreTrainedModel, ids: Tensor, length: int) -> None:
    """Refuse token ids that the model's embedding has no rows for, or a longest text of more than it can read.

    Raises:
        DataError: there are such.
    """
    size = cast(Any, model.get_input_embeddings()).weight.shape[0]
    if not ids.numel() or ((ids < 0) | (ids >= size)).any():
        got = f"{int(ids.min())} to {int(ids.max())}" if ids.numel() else "none"
        raise DataError(
            f"Expected token ids from 0 to {size - 1}, the rows of the embedding of {type(model).__name__}, got {got}: "
            "another tokenizer made them; take the model that they are of."
        )
    if length > (most := longest_prompt(model.config)):
        raise DataError(
            f"Expected at most {most} tokens, which is what {type(model).__name__} can read, got {length}; give a "
            "shorter text."
        )


def _ropes(config: Any) -> list[dict[str, Any]]:
    """A model's rotary settings: one, or one for each kind of layer."""
    settings: Any = getattr(config, "rope_parameters", None) or {}
    return [settings] if "rope_type" in settings else [part for part in settings.values() if isinstance(part, dict)]
