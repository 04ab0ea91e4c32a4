"""A model that is in memory already, as what answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedTokenizerBase

from ..errors import SettingError
from ..routing.modules import answering
from .replaying import transformers_model
from .routed import RoutedModel


def as_routed(model: RoutedModel | nn.Module, tokenizer: PreTrainedTokenizerBase | None = None) -> RoutedModel:
    """A ``RoutedModel`` of what is in memory; what is one already is handed back.

    It holds the same module, adapters of PEFT included, freezes its parameters and puts it in evaluation mode.

    Args:
        model: a ``RoutedModel``, or a model of transformers, in PEFT's wrapper or without.
        tokenizer: of a model of transformers.

    Raises:
        SettingError: another model; no tokenizer, or one beside a ``RoutedModel``, which has its own.
        ModelError: it is dense, or its routing cannot be reached.
    """
    if isinstance(model, RoutedModel):
        if tokenizer is not None:
            raise SettingError("Expected no tokenizer beside a RoutedModel, which has one, got one; leave it out.")
        return model
    base = transformers_model(model)
    name = str(base.config.name_or_path or type(base).__name__)
    return RoutedModel(base, check_tokenizer(tokenizer, type(base).__name__), name=name)


def check_tokenizer(tokenizer: object, model: str) -> PreTrainedTokenizerBase:
    """Refuse what is no tokenizer of transformers for ``model``, which the error names."""
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        got = "none" if tokenizer is None else type(tokenizer).__name__
        loads = "say tokenizer=…, the model's own: AutoTokenizer.from_pretrained(NAME) loads it."
        raise SettingError(f"Expected a tokenizer beside {model}, got {got}; {loads}")
    return tokenizer


@contextmanager
def borrowed(model: RoutedModel | nn.Module, tokenizer: PreTrainedTokenizerBase | None = None) -> Iterator[RoutedModel]:
    """As ``as_routed``, for a block that only reads: afterwards a model of transformers, which may be in training, has
    its modes and what of it is trained again, and its tokenizer its padding.

    Args:
        model: a ``RoutedModel``, or a model of transformers, in PEFT's wrapper or without.
        tokenizer: of a model of transformers.

    Raises:
        SettingError, ModelError: as ``as_routed``.
    """
    if isinstance(model, RoutedModel) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        yield as_routed(model, tokenizer)
        return
    base = transformers_model(model)
    with answering(base):
        trained = [parameter for parameter in base.parameters() if parameter.requires_grad]
        side, pad = tokenizer.padding_side, tokenizer.pad_token
        try:
            yield as_routed(base, tokenizer)
        finally:
            tokenizer.padding_side, tokenizer.pad_token = side, pad
            for parameter in trained:
                parameter.requires_grad_()
