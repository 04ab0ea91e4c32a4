"""Which model it is: every weight counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..routing.modules import modules_of
from ..storage.identity import digest, routing_versions
from .snapshot import Snapshot, changed_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LENGTH = 32  # hex digits
INDIFFERENT = ("transformers_version", "_name_or_path", "architectures", "dtype", "use_cache", "output_router_logits")
"""Of a configuration what changes no number; of dtypes a fingerprint tells."""
OF_TRAINING = ("dropout", "_coef", "initializer_range")
_KNOWN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class _Wraps(Protocol):
    """What has a transformers model, such as a ``RoutedModel``."""

    @property
    def model(self) -> PreTrainedModel: ...


class _Reads(_Wraps, Protocol):
    """And its tokenizer."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...


def fingerprint(model: _Wraps) -> str:
    """Identifies a model by its parameters and saved buffers, adapters included, and how they are quantized.

    Models whose routers are the same and whose experts differ are two; so is one whose adapters are switched off, or
    whose ``top_k`` was changed in memory. It takes seconds for 7 billion weights, and is cached until one of them is
    moved, replaced or written to, as far as a ``Snapshot`` sees it.
    """
    return identity(model.model)


def identity(model: PreTrainedModel) -> str:
    """The fingerprint of a transformers model."""
    modules = modules_of(model)
    known: tuple[Snapshot, str] | None = modules.cache.get("fingerprint")
    if known is None or not known[0].holds(modules):
        known = modules.cache["fingerprint"] = Snapshot(model), computed(model)
    return known[1]


def numbers_of(model: _Wraps) -> list[Any]:
    """What decides the numbers that a model computes, bit for bit: its weights, its dtype, its configuration, which has
    what weights do not show (experts a token, epsilons, rotary bases), and whose code runs it."""
    configuration = digest(json.loads(model.model.config.to_json_string()))
    return [fingerprint(model), str(model.model.dtype), configuration, routing_versions()]


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identifies which pieces of text token ids stand for.

    Tokens that were added to a vocabulary, as chat models have some, are left out: a text without them is the same.
    """
    if tokenizer not in _KNOWN:  # reading a vocabulary takes longer than replaying a line of text
        added = tokenizer.get_added_vocab()
        _KNOWN[tokenizer] = digest({str(p): token for p, token in tokenizer.get_vocab().items() if p not in added})
    return _KNOWN[tokenizer]


def settings_identity(model: _Reads) -> str:
    """Identifies what a model's weights do not show: its configuration, such as experts a token, and its tokenizer."""
    tokenizer, known = model.tokenizer, json.loads(model.model.config.to_json_string())
    settings = {k: v for k, v in known.items() if k not in INDIFFERENT and not k.endswith(OF_TRAINING)}
    said = [tokenizer.get_added_vocab(), tokenizer.chat_template, tokenizer("a b").input_ids]  # how texts begin, too
    return digest([settings, tokenizer_identity(tokenizer), *said])


def computed(model: PreTrainedModel) -> str:
    """The fingerprint, read from every weight again."""
    from accelerate.utils import align_module_device

    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        for name, module in model.named_modules():
            with align_module_device(module):  # brings what is offloaded
                own = list(_own(module))
                for (key, tensor), hashed in zip(own, pool.map(_hashed, [t for _, t in own]), strict=True):
                    whole.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)} {hashed}\n".encode())
    quantized = getattr(model.config, "quantization_config", None)
    if quantized is not None:
        whole.update(str(quantized.to_dict() if hasattr(quantized, "to_dict") else quantized).encode())
    if changed := changed_settings(model):
        whole.update(str(changed).encode())
    return whole.hexdigest()[:LENGTH]


def _hashed(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().data).hexdigest()


def _own(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters, and the buffers that a checkpoint holds: others follow from the configuration."""
    yield from module.named_parameters(recurse=False)
    for key, buffer in module.named_buffers(recurse=False):
        if key not in module._non_persistent_buffers_set:
            yield key, buffer
