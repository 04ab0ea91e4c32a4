"""Pictures in a prompt: where they stand in its text, and what a model's processor makes of both."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..errors import DataError, ModelError
from ..storage.picture_file import Picture
from ..types import Extra, Prompt

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands in a text where a picture does."""


class Described(str):
    """A text and the pictures beside it; the same as another only with the same pictures."""

    pictures: tuple[Picture, ...]

    def __new__(cls, text: str, pictures: Sequence[Picture] = ()) -> Described:
        made = super().__new__(cls, text)
        made.pictures = tuple(pictures)
        return made

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True and self.pictures == pictures_of(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.pictures))

    def __repr__(self) -> str:
        """What draws for it go by."""
        return " ".join([super().__repr__(), *(picture.digest for picture in self.pictures)])


def pictures_of(text: object) -> tuple[Picture, ...]:
    """The pictures beside a text; () where it is a text alone."""
    return text.pictures if isinstance(text, Described) else ()


def placed(text: str, processor: Any) -> str:
    """A text with what a model's own chats have for a picture (Qwen's: ``<|vision_start|><|image_pad|><|vision_end|>``)
    at each mark.

    Raises:
        ModelError: the processor does not say how a picture is marked.
    """
    token = getattr(processor, "image_token", None)
    if token is None:
        raise ModelError(
            f"Expected a processor with an image_token, got {type(processor).__name__} without: where a picture stands "
            "in a text is not known; load a family that c3po models lists with images."
        )
    template = processor.tokenizer.chat_template
    return text.replace(MARK, str(token) if template is None else _in_chats(processor.tokenizer, token))


def _in_chats(tokenizer: PreTrainedTokenizerBase, token: str) -> str:
    """What a chat template writes before a text that a picture precedes, and not before a text alone."""

    def turn(*before: dict[str, str]) -> str:
        content = [*before, {"type": "text", "text": MARK}]
        turns: Any = [{"role": "user", "content": content}]
        written = tokenizer.apply_chat_template(turns, tokenize=False)
        return str(written).partition(MARK)[0]

    alone, after = turn(), turn({"type": "image"})
    own = after.removeprefix(alone)
    return own if token in own else token


def with_pictures(
    text: str,
    pictures: Sequence[Picture],
    processor: Any,
    encoded: Callable[[str], Prompt],
    *,
    special: bool,
) -> Prompt:
    """A prompt whose text has marks, with as many tokens for each picture as it takes, and the pictures beside them.

    Args:
        text: with a mark for each picture.
        pictures: in their order.
        processor: the model's own, of transformers.
        encoded: makes tokens of a text in which a picture is one token, and of what follows it.
        special: whether the tokenizer adds BOS and such.

    Raises:
        DataError: a picture is missing or broken, the processor refuses it, or the text holds marks of its own.
        ModelError: the processor makes other text of the prompt than the tokenizer.
    """
    if text.count(MARK) != len(pictures):
        raise DataError(
            f"Expected a text without {MARK!r} (U+FFFC), which marks pictures, got some of its own; remove them."
        )
    images = [picture.read() for picture in pictures]
    full = placed(text, processor)
    prompt = encoded(full)
    try:
        with warnings.catch_warnings():  # of NumPy, about how a processor (GLM-4V's) reads tensors
            warnings.simplefilter("ignore", DeprecationWarning)
            made = processor(images=images, text=[full], return_tensors="pt", add_special_tokens=special)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        sizes = ", ".join(f"{image.width} × {image.height}" for image in images)
        raise DataError(
            f"Expected pictures that {type(processor).__name__} takes, got {sizes}: {error}; give others."
        ) from error
    lists = getattr(processor, "skip_tensor_conversion", ())  # that the model takes as such (unlimited_ocr)
    inputs = {name: value for name, value in made.items() if hasattr(value, "shape") or name in lists}
    ids = inputs.pop("input_ids")[0]
    inputs.pop("attention_mask", None)
    shown = _shown(ids, processor)
    behind = _behind(prompt.ids, processor)
    if not behind or tuple(ids[-len(behind) :].tolist()) != behind or shown[-len(behind) :].any() or not shown.any():
        raise ModelError(
            f"Expected {type(processor).__name__} to leave the text behind a picture as the tokenizer has it, got "
            "other tokens; load a family that c3po models lists with images."
        )
    return replace(prompt, ids=tuple(ids.tolist()), extra=Extra(_digest(inputs), inputs, shown))


def _behind(ids: tuple[int, ...], processor: Any) -> tuple[int, ...]:
    """The tokens of a text behind the last that stands for a whole picture; () if there is none."""
    mark = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    return ids[len(ids) - ids[::-1].index(mark) :] if mark in ids else ()


def _shown(ids: Tensor, processor: Any) -> Tensor:
    """``[T]`` bool, the tokens that pictures become: llama4's are not the one that stands for it in a text."""
    from torch import isin, tensor

    tokenizer, patch = processor.tokenizer, getattr(processor, "img_patch_token", None)
    number = getattr(processor, "image_token_id", None) if patch is None else None
    number = tokenizer.convert_tokens_to_ids(str(patch or processor.image_token)) if number is None else number
    return isin(ids, tensor([number]))


def _digest(inputs: dict[str, Any]) -> str:
    made = sha256()
    for name, value in sorted(inputs.items()):
        if isinstance(value, list):
            made.update(f"{name} {value}".encode())
            continue
        made.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        made.update(value.contiguous().numpy().tobytes())
    return made.hexdigest()[:32]
