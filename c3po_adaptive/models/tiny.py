"""Tiny mixture-of-experts models of any family and their tokenizer, built from configurations."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ..errors import UnknownNameError
from ..routing import families

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_CHAT = (
    "{% for turn in messages %}{{ turn.role }}: {% if turn.content is string %}{{ turn.content }}{% else %}"
    "{% for part in turn.content %}{{ 'IMAGE' if part.type == 'image' else part.text }}{% endfor %}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
"""Of chats with images, where IMAGE stands for what marks one."""


def tiny_config(family: str, **settings: Any) -> PreTrainedConfig:
    """The configuration of ``tiny_moe``."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

    from . import architecture  # noqa: F401 (registers families that transformers does not know)

    if family not in CONFIG_MAPPING:
        raise UnknownNameError(f"Expected a model type that transformers knows, got {family!r}; see c3po models.")
    whole = CONFIG_MAPPING[family]()
    usual = whole.get_text_config()
    row, sizes = families.family(family), families.table().tiny
    own = families.family(usual.model_type).tiny if row.tiny is None else row.tiny
    made = _small(usual, sizes["wherever_there_is_one"], (own or {}) | settings)
    if usual is whole or (type(usual) in AutoModelForCausalLM._model_mapping and row.whole is None):
        return made
    parts = {name: part for name, part in vars(whole).items() if isinstance(part, PreTrainedConfig)}
    seeing = _by_name(sizes["in_parts_that_see_or_hear"]) | {"deepstack_visual_indexes": [0]}
    beside = dict(row.whole or {})
    small = {
        name: made if part is usual else _small(part, seeing, beside.pop(name, {})) for name, part in parts.items()
    }
    together: PreTrainedConfig = cast(Any, type(whole))(**small, **beside)
    return together


def _small(usual: PreTrainedConfig, tiny: dict[str, object], own: dict[str, Any]) -> PreTrainedConfig:
    """A configuration of its class, with the small settings that it has."""
    settings = {k: v for k, v in tiny.items() if k in vars(usual) or k in dir(usual)}
    table = families.table()
    usually = _by_name(table.tiny["where_it_is_set_by_default"])
    usually |= dict.fromkeys(table.names["experts"], 8) | dict.fromkeys(table.names["top_k"], 2)
    settings |= {k: v for k, v in usually.items() if vars(usual).get(k) is not None}
    made: PreTrainedConfig = cast(Any, type(usual))(**settings | own)
    return made


def _by_name(sizes: dict[Any, list[str]]) -> dict[str, object]:
    return {name: size for size, names in sizes.items() for name in names}


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

    pictures = families.family(family).pictures
    if pictures is None:
        able = [name for name, row in families.table().families.items() if row.pictures]
        raise UnknownNameError(f"Expected a family with a tiny processor ({', '.join(able)}), got {family!r}.")
    tokenizer = tiny_tokenizer(pictures.tokens, pictures.named)
    tokenizer.chat_template = _CHAT.replace("IMAGE", "".join(pictures.tokens))
    images = getattr(transformers, pictures.images)(**pictures.settings)
    return of_images(transformers.CONFIG_MAPPING[family])(image_processor=images, tokenizer=tokenizer)


def write_tiny_checkpoint(folder: str | Path, family: str, seed: int = 0, **settings: Any) -> Path:
    """A folder that ``from_pretrained`` reads, with ``tiny_moe`` and ``tiny_tokenizer`` in it, or the processor of a
    family that reads images."""
    tiny_moe(family, seed, **settings).save_pretrained(folder)
    (tiny_processor(family) if families.family(family).pictures else tiny_tokenizer()).save_pretrained(folder)
    return Path(folder)
