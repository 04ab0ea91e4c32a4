"""Pack what follows the prompt of a question into rows of tokens: the tail.

Three layouts, from the cheapest to the one that asks least of a model:

- ``tree``: the prompt's last token and then every option's tokens side by side in one sequence. A tree-shaped attention
  mask keeps options from seeing each other, so the last token is computed once, however many options there are.
- ``rows``: a sequence for each option (one for all that are single tokens), the last token in front of each. For models
  whose layers carry a state along the sequence, or make their own masks.
- ``whole``: the same, with the whole prompt in each sequence and nothing kept in a cache.

Where a pathway acts on an earlier token of the prompt, the tail begins there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from ..types import Prompt
from .families import family
from .image_inputs import ImageInputs

Layout = Literal["tree", "rows", "whole"]
PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
READY_MASKS = ("eager", "sdpa")
"""Attention implementations that take a mask of any shape."""


@dataclass(frozen=True, eq=False)
class Packed:
    """The tail of one question: Q sequences of at most S tokens.

    Attributes:
        past: how many of the prompt's tokens come before the tail.
        acting: place in every sequence of the token where ω acts.
        last: that of the prompt's last token: the same one, most often.
        tokens: ``[Q, S]``.
        positions: ``[Q, S]``.
        real: ``[Q, S]`` bool, no padding (which stands on the right).
        visible: ``[S, S]`` bool, who attends to whom inside a tree; None: all that came before.
        option: ``[M]`` the option of each scored token; -1: one that is given, and counts for none.
        row: ``[M]`` the place ``q * S + s`` that predicts it.
        scored: ``[M]`` the token itself.
        images: what pictures in the prompt become, as far as the tail needs it; None: it is a text.
    """

    past: int
    acting: int
    last: int
    tokens: Tensor
    positions: Tensor
    real: Tensor
    visible: Tensor | None
    option: Tensor
    row: Tensor
    scored: Tensor
    images: ImageInputs | None = None

    @property
    def seen(self) -> Tensor:
        """``[S, S]`` bool, who attends to whom inside the tail, a tree or not."""
        return torch.ones(2 * self.tokens.shape[1:], dtype=torch.bool).tril() if self.visible is None else self.visible

    @property
    def rows(self) -> int:
        """Tokens without padding."""
        return int(self.real.sum())


def layout_for(model: PreTrainedModel, prompt: Prompt) -> Layout:
    """The cheapest layout that a model supports.

    Layers that carry a state along the sequence (recurrent, convolutional, or with a cache of their own kind) know no
    trees, and few of them can resume from a state by more than one token.
    """
    config = model.config.get_text_config()
    keeps_all = 1 in windows(model).values()  # as a cache does of a window of one token
    if keeps_all or not family(config.model_type).resumes:
        return "whole"
    if caches_keys(model) and config._attn_implementation in READY_MASKS:
        return "tree"
    return "rows" if not prompt.after and all(len(option) == 1 for option in prompt.options) else "whole"


def caches_keys(model: PreTrainedModel) -> bool:
    """Whether all that layers keep of a prompt are keys and values, so that it can be continued from these alone."""
    layers = DynamicCache(config=model.config).layers
    return family(model.config.get_text_config().model_type).resumes and all(type(layer) in PLAIN for layer in layers)


def windows(model: PreTrainedModel) -> dict[str, int | None]:
    """How far back each kind of attention layer sees; one kind, named "", where a model has but one."""
    config = model.config.get_text_config()
    window, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    known: dict[str, int | None] = {"full_attention": None, "sliding_attention": window, "chunked_attention": chunk}
    if len(kinds & known.keys()) > 1 or kinds == {"chunked_attention"}:
        return {kind: known[kind] for kind in sorted(kinds & known.keys())}
    if kinds and "sliding_attention" not in kinds:
        return {"": None}
    return {"": window or None}


def pack(prompt: Prompt, layout: Layout, *, whole: bool = False, images: ImageInputs | None = None) -> Packed:
    """Lay out a prompt's tail; the last token of an option predicts nothing and is left out.

    A tail that would begin inside a picture whose tokens see each other in both directions takes in the whole prompt.

    Args:
        prompt: with its options.
        layout: see above.
        whole: put all of the prompt in front of each sequence's tail, whatever the layout.
        images: what pictures in the prompt become.
    """
    whole = whole or (images is not None and images.split_by(len(prompt.ids) - 1 - prompt.after))
    packed = _tree(prompt, whole=whole) if layout == "tree" else _sequences(prompt, whole=whole or layout == "whole")
    return replace(packed, images=images)


def _tree(prompt: Prompt, *, whole: bool) -> Packed:
    acts = len(prompt.ids) - 1 - prompt.after
    past = 0 if whole else acts
    last = len(prompt.ids) - 1 - past
    tokens, positions = list(prompt.ids[past:]), list(range(past, len(prompt.ids)))
    parents = list(range(-1, last))
    option, row, scored = [], [], []
    # Every option begins at the prompt's last token, and grows a branch of its own; its last token predicts nothing.
    for c, (continuation, given) in enumerate(_options(prompt)):
        here = last
        for depth, token in enumerate(continuation):
            option.append(c if depth >= given else -1)
            row.append(here)
            scored.append(token)
            if depth < len(continuation) - 1:
                parents.append(here)
                here = len(tokens)
                tokens.append(token)
                positions.append(past + last + depth + 1)
    # A token sees itself and what its parent sees, which stands before it: the prompt's end, and its own option so far.
    visible = torch.eye(len(tokens), dtype=torch.bool)
    for child, parent in enumerate(parents[1:], start=1):
        visible[child] |= visible[parent]
    return Packed(
        past=past,
        acting=acts - past,
        last=last,
        tokens=torch.tensor(tokens)[None],
        positions=torch.tensor(positions)[None],
        real=torch.ones(1, len(tokens), dtype=torch.bool),
        visible=visible,
        **_scored_tokens(option, row, scored),
    )


def _sequences(prompt: Prompt, *, whole: bool) -> Packed:
    acts = len(prompt.ids) - 1 - prompt.after
    past = 0 if whole else acts
    last = len(prompt.ids) - 1 - past
    wanted = [prompt.ids[past:] + option[:-1] for option in prompt.options] or [prompt.ids[past:]]
    sequences = list(dict.fromkeys(wanted))  # options of one token share the sequence that predicts them
    tokens = pad_sequence([torch.tensor(s) for s in sequences], batch_first=True)
    real = pad_sequence([torch.ones(len(s), dtype=torch.bool) for s in sequences], batch_first=True)
    option, row, scored = [], [], []
    for c, (continuation, given) in enumerate(_options(prompt)):
        q = sequences.index(wanted[c])
        for depth, token in enumerate(continuation):
            option.append(c if depth >= given else -1)
            row.append(q * tokens.shape[1] + last + depth)
            scored.append(token)
    return Packed(
        past=past,
        acting=acts - past,
        last=last,
        tokens=tokens,
        positions=(past + torch.arange(tokens.shape[1])).expand_as(tokens),
        real=real,
        visible=None,
        **_scored_tokens(option, row, scored),
    )


def _options(prompt: Prompt) -> list[tuple[tuple[int, ...], int]]:
    """Each option's tokens, and how many of them are given."""
    return list(zip(prompt.options, prompt.given or (0,) * len(prompt.options), strict=True))


def _scored_tokens(option: Sequence[int], row: Sequence[int], scored: Sequence[int]) -> dict[str, Any]:
    named = (("option", option), ("row", row), ("scored", scored))
    return {name: torch.tensor(values, dtype=torch.long) for name, values in named}


def padded(sequences: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids ``[N, T]`` of sequences side by side, padded on the left; and ``[N, T]`` bool, no padding."""
    lengths = torch.tensor([len(ids) for ids in sequences])
    rows = [torch.tensor(ids, dtype=torch.long) for ids in sequences]
    tokens = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
    return tokens, torch.arange(tokens.shape[1]) >= tokens.shape[1] - lengths[:, None]
