"""What stands before every prompt and is no text: embeddings, or keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from c3po_adaptive import DataError, Prompt, PromptPrefix


@dataclass(frozen=True, eq=False)
class VirtualTokens(PromptPrefix):
    """Embeddings before a prompt's own.

    Attributes:
        count: n, how many there are.
        limit: the longest prompt with an option that the model reads.
        embeddings: gives them, ``[n, H]``.
    """

    count: int
    limit: int
    embeddings: Callable[[], Tensor]

    def lengths(self, prompt: Prompt) -> tuple[int, int]:
        check_room(prompt, self.count, self.limit)
        return self.count, 0

    def read(self, model: PreTrainedModel, tokens: Tensor) -> tuple[dict[str, Tensor], DynamicCache | None]:
        own = model.get_input_embeddings()(tokens[:, self.count :])
        virtual = self.embeddings().to(own).expand(len(tokens), -1, -1)
        return {"inputs_embeds": torch.cat([virtual, own], 1)}, None


@dataclass(frozen=True, eq=False)
class SeenBefore(PromptPrefix):
    """Keys and values that all tokens see as if they came before.

    Attributes:
        count: n, how many tokens they stand for.
        limit: the longest prompt with an option that the model reads.
        cache: gives them for N sequences.
    """

    count: int
    limit: int
    cache: Callable[[int], DynamicCache]

    def lengths(self, prompt: Prompt) -> tuple[int, int]:
        check_room(prompt, self.count, self.limit)
        return 0, self.count

    def read(self, model: PreTrainedModel, tokens: Tensor) -> tuple[dict[str, Tensor], DynamicCache | None]:
        return {"input_ids": tokens}, self.cache(len(tokens))


def check_room(prompt: Prompt, count: int, limit: int) -> None:
    """Refuse a prompt that is too long with ``count`` tokens before it.

    Raises:
        DataError: it is.
    """
    length = len(prompt.ids) + max(map(len, prompt.options), default=0)
    if count + length > limit:
        raise DataError(
            f"Expected a question of at most {limit - count} tokens, so that {count} virtual ones fit before it, got "
            f"{length}; shorten it, or take fewer tokens."
        )
