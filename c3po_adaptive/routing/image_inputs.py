"""What a model hands to its decoder for a prompt with images, in the place of tokens alone.

A picture is computed once: the model's own forward is run up to its decoder, and what that is called with is cached.
Behind the prompt there is text only, so that tails need no picture, but the place where the prompt ends: a picture of
many tokens may take few positions (M-RoPE, arXiv 2409.12191, section 2.1).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..errors import ModelError
from ..types import Prompt
from .head import forward_as
from .sites import WORKING, decoder_of

KNOWN = {"inputs_embeds", "position_ids", "visual_pos_masks", "deepstack_visual_embeds", "ple_input_ids"}
"""What a decoder may take of a prompt with pictures, and takes again."""
LEFT = {"input_ids", "attention_mask", "use_cache", "cache", "past_key_values", "cache_position"}
"""What is settled anew for each batch."""


@dataclass(frozen=True, eq=False)
class ImageInputs:
    """The decoder's inputs of one prompt with images.

    Attributes:
        embeddings: ``[T, H]`` of its tokens, pictures' in their places; None where no picture is left in the part that
            is stored.
        positions: ``[A, T]`` rotary positions on A axes; None: 0 … T-1.
        deep: ``[n, T, H]`` what is added behind each of the first n decoder layers (DeepStack, arXiv 2406.04334), 0 at
            text; None: nothing.
        shown: ``[T]`` bool, where pictures stand.
        flops: what computing it took.
        sees: for each kind of layer ``[T, T]`` bool, who attends to whom, where that is not for the decoder to say:
            tokens of one picture may see each other in both directions (gemma4).
    """

    embeddings: Tensor | None
    positions: Tensor | None
    deep: Tensor | None
    shown: Tensor
    flops: float
    sees: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        parts = (self.embeddings, self.positions, self.deep, self.shown, *self.sees.values())
        return sum(part.nbytes for part in parts if part is not None)

    def behind(self, past: int) -> ImageInputs:
        """As much as a tail needs that begins there: no pictures, where none stands in it."""
        return self if self.shown[past:].any() else replace(self, embeddings=None, deep=None, sees={})

    def split_by(self, past: int) -> bool:
        """Whether some of the first ``past`` tokens see later ones, so that they cannot be run before these."""
        return any(bool(seen[:past, past:].any()) for seen in self.sees.values())

    def places(self, places: Tensor) -> Tensor:
        """Rotary positions ``[A, …]`` of tokens ``[…]``, by their numbers; text follows a prompt one by one."""
        if self.positions is None:
            return places[None]
        inside, last = self.positions[:, places.clamp(max=len(self.shown) - 1)], int(self.positions.max())
        return torch.where(places < len(self.shown), inside, last + 1 + places - len(self.shown))


class _Taken(Exception):
    """The decoder was called."""


@torch.no_grad()
def image_inputs_of(model: PreTrainedModel, prompt: Prompt) -> ImageInputs | None:
    """What the decoder takes for a prompt with pictures; None for a text.

    Raises:
        ModelError: the family's decoder needs more of pictures than is known here.
    """
    if prompt.extra is None:
        return None
    call: dict[str, Any] = {}

    def take(*args: Any, **kwargs: Any) -> None:
        call.update(kwargs)
        raise _Taken

    ids = torch.tensor([prompt.ids]).to(model.device)
    inputs = {name: on_device(value, model) for name, value in prompt.extra.inputs.items()}
    with FlopCounterMode(display=False) as counter, as_it_was(model), forward_as(decoder_of(model), take):
        try:
            with suppress(_Taken):
                model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **inputs)
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise ModelError(
                f"Expected {type(model).__name__} to read pictures with {', '.join(inputs)}, got "
                f"{type(error).__name__}: {error}. {WORKING}"
            ) from error
    return _kept(model, prompt, call, prompt.extra.shown, float(counter.get_total_flops()))


def _kept(model: PreTrainedModel, prompt: Prompt, call: dict[str, Any], shown: Tensor, flops: float) -> ImageInputs:
    name, embeddings = type(model).__name__, call.get("inputs_embeds")
    further = [key for key, value in call.items() if key not in KNOWN | LEFT and isinstance(value, Tensor)]
    mask = call.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim > 2:
        further.append("an attention_mask of its own")
    if embeddings is None or further:
        raise ModelError(
            f"{name} gives its decoder {', '.join(further) or 'no embeddings'} for pictures, which cannot be kept: "
            f"this family answers texts alone here. {WORKING}"
        )
    count, places = len(prompt.ids), call.get("position_ids")
    if isinstance(places, Tensor):
        places = places.reshape(-1, count).cpu()
        plain = (places == torch.arange(count)).all()
        places = None if plain and len(places) == 1 else places
    deep = call.get("deepstack_visual_embeds")
    if deep is not None:
        seen = call["visual_pos_masks"][0].cpu()
        added = embeddings.new_zeros(len(deep), *embeddings.shape[1:])
        for layer, values in zip(added, deep, strict=True):
            layer[seen.to(layer.device)] = values.to(layer)
        deep = added
    sees = {kind: _seen(one, count) for kind, one in mask.items()} if isinstance(mask, dict) else {}
    ahead = any(seen.triu(1).any() for seen in sees.values())  # if none is, these are what the decoder makes itself
    return ImageInputs(embeddings[0], places, deep, shown, flops, sees if ahead else {})


def _seen(mask: Tensor | None, count: int) -> Tensor:
    """``[T, T]`` bool of a mask ``[1, 1, T, T]``, true or zero where a token is seen; None: all that came before."""
    if mask is None:
        return torch.ones(count, count, dtype=torch.bool).tril()
    return (mask if mask.dtype == torch.bool else mask == 0)[0, 0].cpu()


def alone(images: ImageInputs, past: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The masks ``[1, 1, P, P]`` of a prompt's first P tokens, for each kind of layer, added to attention scores."""
    return {kind: as_mask(seen[:past, :past], dtype)[None, None] for kind, seen in images.sees.items()}


def as_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores: nothing where a token is seen."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def on_device(value: Any, model: PreTrainedModel) -> Any:
    """An input where the model is, in its dtype if it is no count; a list as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)


@contextmanager
def as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Put back what some families note of their last prompt, and would take for that of the next."""
    noted = [(module, module.rope_deltas) for module in model.modules() if hasattr(module, "rope_deltas")]
    try:
        yield
    finally:
        for module, value in noted:
            module.rope_deltas = value


def ids_beside(model: PreTrainedModel, tokens: Tensor) -> dict[str, Tensor]:
    """Token ids ``[N, S]``, where a decoder asks for them beside embeddings (qwen4_exp, which embeds n-grams, too)."""
    asked = "ple_input_ids" in inspect.signature(decoder_of(model).forward).parameters
    return {"ple_input_ids": tokens.to(model.device)} if asked else {}


def decoder_inputs(
    model: PreTrainedModel, images: Sequence[ImageInputs | None], tokens: Tensor, places: Tensor
) -> dict[str, Any]:
    """What the decoder is called with for sequences of prompts with pictures among others.

    Args:
        model: whose decoder it is.
        images: of each of N sequences.
        tokens: ``[N, S]``; at pictures, and at padding, whatever they are.
        places: ``[N, S]`` number of each token in its prompt and what follows.

    Returns:
        ``inputs_embeds``, ``position_ids``, and what else the family's decoder takes; ``input_ids`` is None.
    """
    device = model.device
    embeddings = model.get_input_embeddings()(tokens.to(device))
    known = [one for one in images if one is not None]
    deep = next((one.deep for one in known if one.deep is not None), None)
    added = None if deep is None else embeddings.new_zeros(len(deep), *embeddings.shape)
    seen = torch.zeros(tokens.shape, dtype=torch.bool)
    axes = max([0, *(len(one.positions) for one in known if one.positions is not None)])
    positions = places.expand(max(1, axes), *places.shape).clone()
    for n, one in enumerate(images):
        if one is None:
            continue
        positions[:, n] = one.places(places[n])
        if one.embeddings is not None:
            inside = (places[n] < len(one.shown)).nonzero().squeeze(1)
            at = places[n][inside]
            embeddings[n, inside.to(device)] = one.embeddings[at.to(device)].to(embeddings)
            seen[n, inside] = one.shown[at]
            if added is not None and one.deep is not None:
                added[:, n, inside.to(device)] = one.deep[:, at.to(device)]
    inputs: dict[str, Any] = {"input_ids": None, "inputs_embeds": embeddings, **ids_beside(model, tokens)}
    inputs["position_ids"] = (positions if axes > 1 else positions[0]).to(device)
    if added is not None and seen.any():
        inputs["visual_pos_masks"] = seen.to(device)
        inputs["deepstack_visual_embeds"] = list(added[:, seen.to(device)])
    return inputs
