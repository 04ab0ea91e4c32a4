"""Retrieval by what the model itself makes of a question: its final hidden states, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import UnknownNameError, suggestion
from ..models.fingerprint import fingerprint
from ..models.routed import RoutedModel
from .embedding import NAME, Embedder, default_embedder

if TYPE_CHECKING:
    from ..routing.states import State
    from .reference_set import ReferenceSet

MODEL = "model"


class ModelEmbedder(Embedder):
    """Texts, and the pictures beside them, to unit vectors ``[N, 2 H]``.

    The first half is the mean of the final hidden states at pictures, the second at text, each of the same length: so
    that a text is not lost beside pictures, which take many more tokens. Without pictures (or by a model that reads
    none) the first half is zero.

    Args:
        model: whose features they are.
        batch_size: texts at a time.
    """

    def __init__(self, model: RoutedModel, *, batch_size: int = 32) -> None:
        super().__init__(MODEL, batch_size=batch_size)
        self.model = model
        self._spent: dict[str, float] = {}
        self._of = ""

    @property
    def revision(self) -> str:
        """The model's fingerprint."""
        return fingerprint(self.model)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[N, D]`` embeddings of N texts, each of length one; those of other weights are forgotten."""
        with self._lock:
            if self._of != (now := self.revision):
                self.forget()
                self._of = now
            return super().encode(texts)

    def flops(self, text: str) -> float:
        """FLOPs of running it: a forward pass of its own, beside that of the question as it is put."""
        if text not in self._spent:
            self._spent[text] = self.model.plain_work(self.model.encode_text(text)).flops
        return self._spent[text]

    def _embed(self, texts: list[str]) -> dict[str, NDArray[np.float32]]:
        prompts = [self.model.encode_text(text) for text in texts]
        states = self.model.prefill(prompts, batch_size=self.batch_size, keep=False)
        self._spent |= {text: state.work.flops for text, state in zip(texts, states, strict=True)}
        return {text: _pooled(state) for text, state in zip(texts, states, strict=True)}


def _pooled(state: State) -> NDArray[np.float32]:
    """``[2 H]`` of length one."""
    hidden: Tensor = state.last_hidden[None] if state.hidden is None else state.hidden
    extra = state.prompt.extra
    shown = torch.zeros(len(hidden), dtype=torch.bool) if extra is None else extra.shown
    halves = [normalize(part.float().cpu().sum(0), dim=0) for part in (hidden[shown], hidden[~shown])]
    vector: NDArray[np.float32] = normalize(torch.cat(halves), dim=0).numpy()
    return vector


def own_embedder(name: str, model: RoutedModel) -> Embedder:
    """The model's own embedder, or the default one, by its name.

    Raises:
        UnknownNameError: another name.
    """
    if name == NAME:
        return default_embedder()
    if name != MODEL:
        raise UnknownNameError(f"Expected an embedder or {MODEL!r}, got {name!r}; {suggestion(name, (MODEL, NAME))}")
    return ModelEmbedder(model)


def embedder_of(references: ReferenceSet, model: RoutedModel) -> Embedder:
    """The model's own embedder for a set that was built with such a one; the default one for any other."""
    return own_embedder(MODEL if references.card["embedder"]["name"] == MODEL else NAME, model)
