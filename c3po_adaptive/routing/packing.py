"""Pack what follows the prompt of a question into rows of tokens: the tail.

Three layouts, from the cheapest to the one that asks least of a model:

- ``tree``: the prompt's last token and then every option's tokens side by side in one sequence. A tree-shaped attention
  mask keeps options from seeing each other, so the last token is computed once, however many options there are.
- ``rows``: a sequence for each option (one for all that are single tokens), the last token in front of each. For models
  whose layers carry a state along the sequence, or make their own masks.
- ``whole``: the same, with the whole prompt in each sequence and nothing cached.

Where a pathway acts on an earlier token of the prompt, the tail begins there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from .._printed import in_brief
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
    __repr__ = in_brief

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
    past = 0 if whole else len(prompt.ids) - 1 - prompt.after
    last = len(prompt.ids) - 1 - past
    tokens, positions, parents = list(prompt.ids[past:]), list(range(past, len(prompt.ids))), list(range(-1, last))
    rows = []
    # Every option begins at the prompt's last token, and grows a branch of its own; its last token predicts nothing.
    for option in prompt.options:
        rows.append([last, *range(len(tokens), len(tokens) + len(option) - 1)])
        parents += rows[-1][:-1]
        tokens += option[:-1]
        positions += range(past + last + 1, past + last + len(option))
    # A token sees itself and what its parent sees, which stands before it: the prompt's end, and its own option so far.
    visible = torch.eye(len(tokens), dtype=torch.bool)
    for child, parent in enumerate(parents[1:], start=1):
        visible[child] |= visible[parent]
    real = torch.ones(1, len(tokens), dtype=torch.bool)
    return _packed(prompt, past, rows, torch.tensor(tokens)[None], torch.tensor(positions)[None], real, visible)


def _sequences(prompt: Prompt, *, whole: bool) -> Packed:
    past = 0 if whole else len(prompt.ids) - 1 - prompt.after
    last = len(prompt.ids) - 1 - past
    wanted = [prompt.ids[past:] + option[:-1] for option in prompt.options] or [prompt.ids[past:]]
    sequences = list(dict.fromkeys(wanted))  # options of one token share the sequence that predicts them
    tokens = pad_sequence([torch.tensor(s) for s in sequences], batch_first=True)
    real = pad_sequence([torch.ones(len(s), dtype=torch.bool) for s in sequences], batch_first=True)
    first = [sequences.index(one) * tokens.shape[1] + last for one in wanted]
    rows = [range(begin, begin + len(option)) for begin, option in zip(first, prompt.options, strict=False)]
    return _packed(prompt, past, rows, tokens, (past + torch.arange(tokens.shape[1])).expand_as(tokens), real, None)


def _packed(
    prompt: Prompt,
    past: int,
    rows: Sequence[Sequence[int]],
    tokens: Tensor,
    positions: Tensor,
    real: Tensor,
    visible: Tensor | None,
) -> Packed:
    """With the ``rows`` that predict each option's tokens, of which the first may be given."""
    given = prompt.given or (0,) * len(prompt.options)
    scored = [
        (c if depth >= given[c] else -1, row, token)
        for c, option in enumerate(prompt.options)
        for depth, (row, token) in enumerate(zip(rows[c], option, strict=False))
    ]
    option, row, token = torch.tensor(scored, dtype=torch.long).view(-1, 3).T.contiguous()
    last = len(prompt.ids) - 1 - past
    return Packed(past, last - prompt.after, last, tokens, positions, real, visible, option, row, token)


def padded(sequences: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids ``[N, T]`` of sequences side by side, padded on the left; and ``[N, T]`` bool, no padding."""
    lengths = torch.tensor([len(ids) for ids in sequences])
    rows = [torch.tensor(ids, dtype=torch.long) for ids in sequences]
    tokens = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
    return tokens, torch.arange(tokens.shape[1]) >= tokens.shape[1] - lengths[:, None]
