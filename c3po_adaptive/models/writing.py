"""What a model writes by transformers' ``generate``: how much it may, and a first line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

from ..routing.generation import FirstLine, check_room
from ..routing.image_inputs import as_it_was, on_device
from ..types import Prompt
from .architecture import context_of
from .held import HeldModel

SPARE = 5  # tokens that an answer may have beyond the longest option
LENGTHS = ("max_new_tokens", "max_length")
UNSAID = 20  # new tokens where nobody says how many, as transformers has it


def with_length(model: PreTrainedModel, options: Mapping[str, Any], seen: Tensor) -> dict[str, Any]:
    """Options of ``generate`` behind texts of which ``seen [B, T]`` is no padding, that say how much is written.

    Raises:
        DataError: more than the model's context has room for.
    """
    options = {name: value for name, value in options.items() if name not in LENGTHS or value is not None}
    context, longest = context_of(model.config), int(seen.sum(1).max())
    most = _most(options, model.generation_config, seen.shape[1])
    check_room(context, longest, 1 if most is None else most)
    return options if most is not None else {**options, "max_new_tokens": min(UNSAID, context - longest)}


def _most(options: Mapping[str, Any], own: object, width: int) -> int | None:
    """How many tokens ``generate`` is asked for behind texts of ``width``, as it settles that itself: by the options,
    their ``generation_config``, and the model's ``own``; None: nobody says."""
    sources: list[Mapping[str, Any]] = [options, vars(options.get("generation_config") or own), vars(own)]
    new, whole = (next((t[name] for t in sources if t.get(name) is not None), None) for name in LENGTHS)
    return new if new is not None else None if whole is None else whole - width


def first_lines(model: HeldModel, prompts: Sequence[Prompt], inputs: tuple[Tensor, Tensor]) -> FirstLine:
    """What follows each prompt greedily: the first line that says something, of at most ``SPARE`` tokens more than the
    prompt's longest option; ``inputs`` as ``padded`` gives them. Of several prompts none has images.

    Raises:
        DataError: a prompt fills the context.
    """
    (tokens, seen), whole, extra = inputs, cast(Any, model.model), prompts[0].extra
    shown = {} if extra is None else {name: on_device(value, whole) for name, value in extra.inputs.items()}
    most = [min(max(map(len, p.options), default=0) + SPARE, model.max_length - len(p.ids)) for p in prompts]
    check_room(model.max_length, tokens.shape[1], 1)
    ends = whole.generation_config.eos_token_id  # one, several, or none
    read = partial(model.tokenizer.batch_decode, skip_special_tokens=True)
    line = FirstLine(read, most, ends if isinstance(ends, list) else [ends])
    greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    with as_it_was(whole):
        whole.generate(
            tokens.to(whole.device),
            attention_mask=seen.long().to(whole.device),
            **shown,
            max_new_tokens=max(most),
            stopping_criteria=[line],
            pad_token_id=model.pad,
            **greedy,
        )
    return line
