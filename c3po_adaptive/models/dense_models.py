"""Dense models, which stand beside a mixture of experts: loaded frozen, with their tokenizers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import ModelError, SettingError
from ..routing.head import check_head
from ..storage.folders import cache_folder
from .embedded.builder import fetch, load_dense
from .loading import Fetching, briefly, load_tokenizer, weights
from .names import EMBEDDED, ours

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def dense_parent(name: str) -> Loaded:
    """The dense model that the embedded one, or another of its experts, is made from, in float32.

    Raises:
        SettingError: the model of that name is none of these.
        ArtifactError: its weights can neither be found in the cache nor fetched.
    """
    if name not in ours():
        raise SettingError(
            f"Expected a dense model by name, for only {EMBEDDED} has one of its own, got none for {name!r}; name one "
            "with the same tokenizer."
        )
    with tempfile.TemporaryDirectory(prefix="c3po-dense-") as scratch:
        return _frozen(*load_dense(fetch(cache_folder()), Path(scratch)))


def load_dense_model(name_or_path: str) -> Loaded:
    """A causal language model by Hub id or folder, in its checkpoint's dtype.

    Raises:
        ModelError: it cannot be loaded, or its head cannot be run alone.
    """
    try:
        model = weights(name_or_path, AutoConfig.from_pretrained(name_or_path), "auto", None, None, Fetching())
    except Exception as error:  # transformers checks little, and may fail anywhere
        raise ModelError(
            f"Could not load {name_or_path!r}: {briefly(error)}\nExpected a causal language model by Hub id or folder, "
            "with its tokenizer."
        ) from error
    return _frozen(model, load_tokenizer(name_or_path))


def _frozen(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Loaded:
    model.eval().requires_grad_(False)
    check_head(model)
    return model, tokenizer
