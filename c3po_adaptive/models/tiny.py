"""Tiny mixture-of-experts models of any family and their tokenizer, built from configurations."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ..errors import UnknownNameError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_TINY: dict[str, object] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 512,
    # Router logits of a normalized hidden state then have a standard deviation of 0.25 √32 = 1.4: far from flat.
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "dtype": "float32",
}
"""Set in every family that has the setting."""

_SMALL: dict[str, object] = {
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 8),
    **dict.fromkeys(("num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts"), 2),
    **dict.fromkeys(
        ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "head_dim"), 8
    ),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "index_head_dim"), 8),
    "swa_head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    **dict.fromkeys(("mamba_head_dim", "mamba_d_head", "mamba_d_state", "ssm_state_size", "o_lora_rank"), 8),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("shared_intermediate_size", "dense_intermediate_size"), 32),
    **dict.fromkeys(("n_group", "num_expert_group", "o_groups", "index_n_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("linear_num_value_heads", "linear_num_heads", "mamba_dt_rank"), 4),
    **dict.fromkeys(("mamba_num_heads", "mamba_n_heads"), 8),
    **dict.fromkeys(("topk_group", "n_groups", "num_dense_layers", "first_k_dense_replace"), 1),
    "index_topk": 512,
    "unpadded_vocab_size": 128,
    "sliding_window": 8,
    "attention_chunk_size": 8,
    "chunk_size": 16,
}
"""Set where a family has the setting and gives it a value by default."""

_TINY_VISION: dict[str, object] = {
    **dict.fromkeys(("hidden_size", "embed_dim", "width"), 16),
    **dict.fromkeys(("adapter_in_dim", "adapter_input_size", "moe_intermediate_size", "projection_hidden_dim"), 16),
    **dict.fromkeys(("projector_input_dim", "projector_output_dim", "vision_output_dim"), 16),
    **dict.fromkeys(("intermediate_size", "out_hidden_size"), 32),
    **dict.fromkeys(("adapter_out_dim", "output_dim", "projection_intermediate_size", "text_hidden_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "layers", "depth", "encoder_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "num_heads", "heads", "num_key_value_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("posemb_grid_size", "num_local_experts"), 4),
    **dict.fromkeys(("d_model", "downsample_hidden_size", "encoder_ffn_dim", "max_source_positions"), 8),
    **dict.fromkeys(("mel_vocab_size", "n_mel_bins", "num_mel_bins"), 8),
    "image_size": 28,
    "max_image_size": 112,
    "patch_size": 14,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
    "initializer_range": 0.25,
}
"""Of the parts that read images or sound, where a family has no language model without them."""

_SAM: dict[str, object] = {
    "hidden_size": 16,
    "output_channels": 8,
    "downsample_channels": [8, 16],
    "mlp_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 64,
    "window_size": 2,
    "global_attn_indexes": [0],
    "initializer_range": 0.25,
}
_ENCODER: dict[str, object] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
_SIGHT: dict[str, dict[str, Any]] = {
    "aria": {"image_token_index": 101, "projector_patch_to_query_dict": {4: 2}},
    "deepseek_ocr2": {
        "image_token_id": 101,
        "vision_config": {
            "sam_config": _SAM,
            "encoder_config": _ENCODER | {"vocab_size": 16, "num_key_value_heads": 2},
        },
    },
    "dots3_note": {
        "image_token_id": 101,
        "video_token_id": 103,
        "audio_token_id": 104,
        "vision_config": {"num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"]},
    },
    "gemma4": {
        "image_token_id": 101,
        "video_token_id": 103,
        "audio_token_id": 104,
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "position_embedding_size": 16,
        },
    },
    "glm4v_moe": {"image_token_id": 101, "image_start_token_id": 100, "image_end_token_id": 102},
    "glm5_next": {"image_token_id": 101, "image_start_token_id": 100, "image_end_token_id": 102},
    "hy_v4_vl": {"image_token_id": 101},
    "inkling2": {"image_token_id": 101},
    "inkling_mm_model": {
        "image_token_id": 101,
        "audio_token_id": 104,
        "vision_config": {"patch_size": 4, "n_layers": 2},
    },
    "kimi_k25": {"image_token_id": 101, "projection_hidden_size": 16},
    "llama4": {"image_token_index": 101, "vision_config": {"image_size": 56, "intermediate_size": 64}},
    "minimax_m3_vl": {"image_token_index": 101, "projector_hidden_size": 32},
    "mistral_large4": {"image_token_index": 101},
    "muse_spark": {
        "image_token_id": 101,
        "video_token_id": 103,
        "audio_token_id": 104,
        "out_hidden_size": 64,
        "projector_hidden_size": 16,
        "vision_config": {"pos_emb_height": 4, "pos_emb_width": 4},
        "audio_config": {"num_hidden_layers": 4, "hidden_sizes": [8] * 4, "depths": [1] * 4},
    },
    "nemotron_h_omni": {
        "image_token_id": 101,
        "vision_hidden_size": 16,
        "projector_hidden_size": 16,
        "vision_config": {"max_img_size": 56, "video_temporal_patch_size": 2},
    },
    "qwen3_5_moe": {"image_token_id": 101, "vision_start_token_id": 100, "vision_end_token_id": 102},
    "qwen3_omni_moe_thinker": {"image_token_id": 101, "vision_start_token_id": 100, "vision_end_token_id": 102},
    "qwen3_vl_moe": {"image_token_id": 101, "vision_start_token_id": 100, "vision_end_token_id": 102},
    "qwen4_exp": {"image_token_id": 101, "vision_start_token_id": 100, "vision_end_token_id": 102},
    "step3p7": {"image_token_id": 101},
    "unlimited_ocr": {
        "image_token_id": 101,
        "vision_config": {"sam_config": _SAM, "encoder_config": _ENCODER | {"image_size": 28, "patch_size": 14}},
    },
}
"""Of the whole configuration: the token of a picture, as ``tiny_processor`` has it, and how it is projected; of its
parts, what they need beside ``_TINY_VISION``."""
_PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 16 * 28 * 28}
_QWEN_IMAGES: tuple[tuple[str, ...], str, dict[str, object]] = (
    ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
    "Qwen2VLImageProcessorPil",
    {"min_pixels": 28 * 28, "max_pixels": 16 * 28 * 28, "patch_size": 14},
)
_GLM = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>")
PICTURES: dict[str, tuple[tuple[str, ...], str, dict[str, object]]] = {
    "dots3_note": (
        ("<|img|>", "<|imgpad|>", "<|endofimg|>"),
        _QWEN_IMAGES[1],
        _QWEN_IMAGES[2] | {"temporal_patch_size": 1},
    ),
    "glm4v_moe": (_GLM, "Glm4vImageProcessorPil", {"size": _PIXELS}),
    "glm5_next": (_GLM, "Glm5NextImageProcessorPil", {"min_image_tokens": 1, "max_image_tokens": 16}),
    "hy_v4_vl": (_QWEN_IMAGES[0], "HYV4VLImageProcessorPil", {"size": _PIXELS, "patch_size": 14}),
    "qwen3_5_moe": _QWEN_IMAGES,
    "qwen3_omni_moe_thinker": _QWEN_IMAGES,
    "qwen3_vl_moe": _QWEN_IMAGES,
    "qwen4_exp": _QWEN_IMAGES,
}
"""Of families that read images: special tokens, transformers' class that makes images ready, and its settings."""
_NAMED: dict[str, dict[str, str]] = {
    "qwen3_omni_moe_thinker": {
        "image_token": "<|image_pad|>",
        **dict.fromkeys(("vision_bos_token", "audio_bos_token"), "<|vision_start|>"),
        **dict.fromkeys(("vision_eos_token", "audio_eos_token"), "<|vision_end|>"),
        **dict.fromkeys(("audio_token", "video_token"), "<|none|>"),
    },
}
"""What a processor asks its tokenizer for by name."""
_CHAT = (
    "{% for turn in messages %}{{ turn.role }}: {% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{{ 'IMAGE' if part.type == 'image' else part.text }}{% endfor %}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
"""Of chats with images, where IMAGE stands for what marks one."""

_MROPE: dict[str, object] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_HYBRID: dict[str, object] = {"layer_types": ["linear_attention", "full_attention"] * 2, "num_hidden_layers": 4}
_LOOPED: dict[str, object] = {"n_layers_per_attn_res_block": 1, "loop_layer_index_start": 1, "loop_layer_index_end": 3}
_NEMOTRON: dict[str, object] = {"layers_block_type": ["moe", "linear_attention", "moe", "full_attention", "moe"]}
_OCR: dict[str, object] = {"mlp_layer_types": ["dense", "sparse", "sparse"], "num_key_value_heads": 4}
_LATENT: dict[str, object] = {"num_key_value_heads": 4}  # latent attention has as many keys as queries
_QWEN4: dict[str, object] = {
    "num_hidden_layers": 4,
    "ple_layer_ids": [1],
    "ple_embed_dim": 16,
    "ngram_vocab_size_base": 64,
    "hc_lowrank": 8,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 64,
    "indexer_compress_ratio": 4,
}
_DOTS3: dict[str, object] = {
    **_LATENT,
    "first_k_dense_replace": 1,
    # Of layers with a sliding window, whose attention has heads and ranks of its own.
    **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 4),
    **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank", "swa_qk_nope_head_dim", "swa_v_head_dim"), 8),
    "swa_head_dim": 16,
}
_GEMMA4: dict[str, object] = {
    "enable_moe_block": True,
    "num_experts": 8,
    "top_k_experts": 2,
    "moe_intermediate_size": 16,
    "vocab_size_per_layer_input": 128,
    "hidden_size_per_layer_input": 8,
    "global_head_dim": 8,
}
_OWN: dict[str, dict[str, object]] = {
    "qwen2_moe": {"intermediate_size": 64, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32},
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "sarvam_mla"), _LATENT
    ),
    "deepseek": {**_LATENT, "num_experts_per_tok": 2},
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1},
    "longcat_flash": {
        **_LATENT,
        "num_layers": 2,
        "num_hidden_layers": 4,
        "ffn_hidden_size": 32,
        "expert_ffn_hidden_size": 16,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 4},
    "granitemoehybrid": _HYBRID,
    "bailing_hybrid": {**_HYBRID, **_LATENT},
    "kimi_linear": {**_HYBRID, **_LATENT},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_hidden_layers": 4},
    "zaya": {"num_experts_per_tok": 1},
    "hunyuan_v1_moe": {"head_dim": 8},
    "beam": {"mlp_layer_types": ["dense", "sparse", "sparse"]},
    **dict.fromkeys(("dots3_note", "dots3_note_text"), _DOTS3),
    **{key: {"num_hidden_layers": 4} for key in ("qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text")},
    "qwen4_exp": {**_QWEN4, "rope_parameters": _MROPE},
    "qwen4_exp_text": _QWEN4,
    "gemma4": {**_GEMMA4, "hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision"},
    "gemma4_text": _GEMMA4,
    "step3p7": {"mlp_layer_types": ["dense", "sparse", "sparse"], "share_expert_dim": 16, "sliding_window": 8},
    **dict.fromkeys(("deepseek_ocr2", "unlimited_ocr"), _OCR),
    "glm5_next": {
        **_LATENT,
        "qk_rope_head_dim": 0,
        "head_dim": 0,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "layer_types": ["linear_attention", "indexed_attention", "indexed_attention"],
    },
    **dict.fromkeys(("inkling2_loop", "inkling2_loop_text"), _LOOPED),
    "llama4": {"no_rope_layers": [1, 0, 1]},  # the second one sees everything
    "muse_spark": {"moe_hidden_size": 32, "layer_rope_theta": [1e4, 0, 1e4]},
    "hy_v4_vl": {**_LATENT, "rope_parameters": _MROPE},
    "mistral_large4": _LATENT,
    **dict.fromkeys(("nemotron_h", "nemotron_h_omni"), _NEMOTRON),
    "qwen3_omni_moe_thinker": {"rope_parameters": _MROPE},
    "qwen3_vl_moe": {"rope_parameters": _MROPE},
    "glm4v_moe": {
        "first_k_dense_replace": 1,
        "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0},
    },
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 3,
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32, "hidden_size": 32, "moe_num_experts": 8, "moe_top_k": 2},
    },
}
"""What a family needs beside, or differently."""


def tiny_config(family: str, **settings: Any) -> PreTrainedConfig:
    """The configuration of ``tiny_moe``."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

    from . import deepseek, llama4  # noqa: F401 (register families that transformers does not know, or not whole)

    if family not in CONFIG_MAPPING:
        raise UnknownNameError(f"Expected a model type that transformers knows, got {family!r}; see c3po models.")
    whole = CONFIG_MAPPING[family]()
    usual = whole.get_text_config()
    made = _small(usual, _TINY, _OWN.get(family, _OWN.get(usual.model_type, {})) | settings)
    if usual is whole or (type(usual) in AutoModelForCausalLM._model_mapping and family not in _SIGHT):
        return made
    parts = {name: part for name, part in vars(whole).items() if isinstance(part, PreTrainedConfig)}
    sight = dict(_SIGHT.get(family, {}))
    small = {
        name: made if part is usual else _small(part, _TINY_VISION, sight.pop(name, {})) for name, part in parts.items()
    }
    together: PreTrainedConfig = cast(Any, type(whole))(**small, **sight)
    return together


def _small(usual: PreTrainedConfig, tiny: dict[str, object], own: dict[str, Any]) -> PreTrainedConfig:
    """A configuration of its class, with the small settings that it has."""
    given = {k: v for k, v in tiny.items() if k in vars(usual) or k in dir(usual)}
    given |= {k: v for k, v in _SMALL.items() if vars(usual).get(k) is not None}
    made: PreTrainedConfig = cast(Any, type(usual))(**given | own)
    return made


def tiny_moe(family: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random model of three layers or four, eight experts and top-2 routing, in float32 and evaluation mode.

    Args:
        family: a ``model_type`` of transformers, such as "olmoe", or "deepseek".
        seed: settles the parameters; the global random state stays as it is.
        settings: of the configuration class, over the tiny ones.
    """
    from .architecture import language_model_class

    config = tiny_config(family, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = language_model_class(config).from_config(config)
        for parameter in model.parameters():  # some families leave theirs at zero for the checkpoint to fill
            if parameter.ndim > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.25)
    model.train(False)
    return model


def tiny_tokenizer(special: tuple[str, ...] = (), named: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """A token for each printable ASCII character, tab and newline, and special ones; any other byte is unknown.

    Args:
        special: tokens, in the order of their numbers.
        named: more of them, or some of these again, by the names that a processor asks for.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The byte-level alphabet writes these three bytes as letters, so that every token is printable.
    characters = [*string.digits, *string.ascii_letters, *string.punctuation, "Ġ", "ĉ", "Ċ"]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *characters, *special])}
    more = {} if named is None else {"model_specific_special_tokens": named}
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
        additional_special_tokens=list(special),
        **more,
    )


def tiny_processor(family: str) -> Any:
    """What makes images ready for ``tiny_moe`` of a family that reads them: 28 × 28 pixels are a token.

    Raises:
        UnknownNameError: there is none of the family.
    """
    import transformers

    from .processors import of_images

    if family not in PICTURES:
        raise UnknownNameError(f"Expected a family with a tiny processor ({', '.join(PICTURES)}), got {family!r}.")
    tokens, name, settings = PICTURES[family]
    tokenizer = tiny_tokenizer(tokens, _NAMED.get(family))
    tokenizer.chat_template = _CHAT.replace("IMAGE", "".join(tokens))
    images = getattr(transformers, name)(**settings)
    return of_images(transformers.CONFIG_MAPPING[family])(image_processor=images, tokenizer=tokenizer)


def write_tiny_checkpoint(folder: str | Path, family: str, seed: int = 0, **settings: Any) -> Path:
    """A folder that ``from_pretrained`` reads, with ``tiny_moe`` and ``tiny_tokenizer`` in it, or the processor of a
    family that reads images."""
    tiny_moe(family, seed, **settings).save_pretrained(folder)
    (tiny_processor(family) if family in PICTURES else tiny_tokenizer()).save_pretrained(folder)
    return Path(folder)
