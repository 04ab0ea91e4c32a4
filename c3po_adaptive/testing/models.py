"""Tiny mixture-of-experts models and their tokenizer, built from configurations: nothing is downloaded."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UnknownNameError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_SHARED: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    # Router logits of a normalised hidden state then have a standard deviation of 0.25 √32 = 1.4: far from flat.
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "dtype": "float32",
}

_FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "olmoe": ("OlmoeConfig", "OlmoeForCausalLM", {"intermediate_size": 32}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        "Qwen2MoeForCausalLM",
        {"intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    ),
}
"""Each family's configuration class, model class and sizes of its own."""


def tiny_moe(family: str, seed: int = 0, **config: Any) -> PreTrainedModel:
    """A random model of three layers, eight experts and top-2 routing, in float32 and evaluation mode.

    Args:
        family: "olmoe" or "qwen2_moe" (a shared expert beside the routed ones).
        seed: settles the parameters; the global random state stays as it is.
        config: settings of the configuration class that replace the tiny ones.
    """
    import transformers

    if family not in _FAMILIES:
        raise UnknownNameError(f"Expected a family among {', '.join(_FAMILIES)}, got {family!r}; use one of them.")
    config_class, model_class, sizes = _FAMILIES[family]
    settings = getattr(transformers, config_class)(**_SHARED | sizes | config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, model_class)(settings)
    model.train(False)
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each printable ASCII character, tab and newline; any other byte is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The byte-level alphabet writes these three bytes as letters, so that every token is printable.
    characters = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "ĉ", "Ċ"]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *characters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def write_tiny_checkpoint(folder: str | Path, family: str, seed: int = 0, **config: Any) -> Path:
    """A folder that ``from_pretrained`` reads, with ``tiny_moe`` and ``tiny_tokenizer`` in it."""
    tiny_moe(family, seed, **config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return Path(folder)
