"""What every router of a model makes of every token: in one call, or of all calls in a block."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from .._printed import in_brief
from ..errors import ShapeError, checked_call
from ..routing.head import forward_as, projection
from ..routing.image_inputs import as_it_was, on_device
from ..routing.intercept import observed
from ..routing.modules import hook_after, hooked, lock_of
from ..routing.packing import padded
from ..routing.sites import Site, decoder_of, router_scores
from ..routing.styles import NONE, widened
from ..tasks.texts import listed
from .architecture import check_ids
from .in_memory import borrowed
from .replaying import in_backward, sites_of, transformers_model
from .routed import RoutedModel


@dataclass(frozen=True, eq=False)
class TokenRouting:
    """The routing of each token of a padded batch, in each MoE layer.

    Attributes:
        logits: ``[B, T, L, E]`` the routers' scores, float32; NaN at padding.
        weights: ``[B, T, L, k]`` what the experts' outputs are multiplied with (llama4: their inputs), float32; 0 at
            padding.
        experts: ``[B, T, L, k]`` ids of the experts that are used; -1 at padding, and where a rule has fewer used.
        tokens: ``[B, T]`` token ids.
        real: ``[B, T]`` bool, no padding.
        layers: decoder layer index of each of the L MoE layers.
    """

    logits: Tensor
    weights: Tensor
    experts: Tensor
    tokens: Tensor
    real: Tensor
    layers: tuple[int, ...]
    __repr__ = in_brief


@checked_call
def read_routing(
    model: RoutedModel | nn.Module,
    inputs: str | Sequence[str] | Mapping[str, Tensor],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> TokenRouting:
    """Router logits, and the weights and ids of the experts that they led to, for every token and MoE layer.

    The decoder is run once, its head is not. Images are read, too: a processor's ``pixel_values`` and what it gives
    beside them. As with a call of the model, it is in the mode that the model is in, in training with dropout; and what
    comes back has gradients, unless that is under ``torch.no_grad()`` or the parameters are frozen, as a
    ``RoutedModel``'s are. Of a family whose routers hand out probabilities (gemma4's) it is their logarithms, which are
    the logits up to a number for each token.

    Args:
        model: a ``RoutedModel``, or one of transformers with PEFT's adapters or without.
        inputs: a text or several, which are padded on the left; or what a tokenizer gives: ``input_ids [B, T]``, and
            ``attention_mask [B, T]`` where there is padding, on either side; or what a processor gives for texts with
            images, ``pixel_values`` among it.
        tokenizer: of a model of transformers, for texts.

    Raises:
        SettingError: texts for a model without its tokenizer.
        ShapeError: ids or a mask of other shapes.
        DataError: no text, or one that has no tokens, more than the model can read, or others than its embedding has.
        ModelError: the model is dense, or its routing cannot be reached.
    """
    base = transformers_model(model)
    tokens, real = _inputs(model, inputs, tokenizer)
    if not (isinstance(inputs, Mapping) and "pixel_values" in inputs):  # places of pictures may be no tokens
        check_ids(base, tokens, int(real.sum(1).max()))
    tokens, real = tokens.to(base.device), real.to(base.device)
    shown = _beside(inputs, base)
    with lock_of(base):
        sites = sites_of(base)
        logits, weights, experts = _read(base, sites, tokens, real, shown)
    padding = ~real[:, :, None, None]
    return TokenRouting(
        logits.masked_fill(padding, torch.nan),
        weights.masked_fill(padding, 0),
        experts.masked_fill(padding, NONE),
        tokens,
        real,
        tuple(site.layer for site in sites),
    )


def _inputs(model: RoutedModel | nn.Module, inputs: object, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Token ids ``[B, T]``, and where they are no padding."""
    if isinstance(inputs, Mapping):
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if not isinstance(ids, Tensor) or ids.ndim != 2 or not ids.numel():
            got = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
            raise ShapeError(f'Expected input_ids (B, T), got {got}; tokenize with return_tensors="pt", padding=True.')
        mask = torch.ones_like(ids) if mask is None else mask
        if not isinstance(mask, Tensor) or mask.shape != ids.shape:
            raise ShapeError(f"Expected attention_mask in the shape {tuple(ids.shape)} of input_ids, got another.")
        return ids, mask.bool()
    texts = listed(cast(str | Sequence[str], inputs), "texts (or tokenizer(texts, return_tensors='pt', padding=True))")
    with borrowed(model, tokenizer) as routed:
        return padded([routed.encode_text(text).ids for text in texts], routed.pad)


def _beside(inputs: object, model: Any) -> dict[str, Any]:
    """What a processor gave beside the tokens, where images are among it."""
    if not isinstance(inputs, Mapping) or "pixel_values" not in inputs:
        return {}
    others = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    return {name: on_device(value, model) for name, value in others.items()}


@dataclass(frozen=True, eq=False)
class SeenRouting:
    """What one MoE layer did with R tokens, as ``watching`` tells it; with gradients, if the model has them.

    Attributes:
        position: of the MoE layer, 0 … L-1.
        weights: ``[R, k]`` what the experts' outputs are multiplied with (llama4: their inputs).
        experts: ``[R, k]`` ids of the experts that are used; -1, at weight zero, where a token uses fewer than others.
        output: of the router, as its family gives it.
        site: the layer itself.
    """

    position: int
    weights: Tensor
    experts: Tensor
    output: Any
    site: Site
    __repr__ = in_brief

    @property
    def logits(self) -> Tensor:
        """``[R, E]`` the router's scores, float32; of routers that hand out probabilities, their logarithms."""
        return router_scores(self.output, self.site)

    @property
    def again(self) -> bool:
        """Whether autograd runs the layer again, as gradient checkpointing has it; while ``see`` is called."""
        return in_backward()

    @property
    def probabilities(self) -> Tensor:
        """``[R, E]`` how much the router makes of each expert, rows summing to one."""
        return self.site.probabilities(self.output)


@contextmanager
def watching(
    model: RoutedModel | nn.Module, see: Callable[[SeenRouting], None]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Inside the block ``see`` gets what each MoE layer does with the tokens of every call; nothing is changed.

    That is every call in this thread: in training and evaluation, by ``generate``, and again where gradient
    checkpointing runs layers in ``backward``. Tokens come as the layer has them: B·T rows, padding among them.

    Where routing is replaced (by ``replaying``, by rules), it sees what is used, whichever block was opened first; the
    router's output stays its own.

    Args:
        model: a ``RoutedModel``, or one of transformers with PEFT's adapters or without.
        see: is called layer by layer; what it raises ends the call, but where checkpointing runs a layer again: there
            torch warns of it.

    Yields:
        The decoder layer index of each of the L MoE layers, and E, the number of experts of each.

    Raises:
        SettingError: another model.
        ModelError: it is dense, or its routing cannot be reached; or, on leaving, it was run and hooks were left out
            (``torch.compile``?).
    """
    base = transformers_model(model)
    with lock_of(base):
        sites = sites_of(base)
    with _watched(sites, see):
        yield tuple(site.layer for site in sites), sites[0].n_experts


@contextmanager
def _watched(sites: Sequence[Site], see: Callable[[SeenRouting], None]) -> Iterator[None]:
    outputs: dict[int, Any] = {}

    def keep(position: int, module: nn.Module, args: Any, output: Any) -> None:
        outputs[position] = output

    def tell(position: int, index: Tensor, weights: Tensor) -> None:
        see(SeenRouting(position, weights, index, outputs.pop(position), sites[position]))

    handles = [hook_after(site.router, partial(keep, position)) for position, site in enumerate(sites)]
    with hooked(handles), observed(sites, tell):
        yield


def _read(
    model: Any, sites: Sequence[Site], tokens: Tensor, real: Tensor, shown: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[B, T, L, E]``, and weights and experts ``[B, T, L, k]``."""
    seen: dict[int, SeenRouting] = {}
    decoder = decoder_of(model)
    named: dict[str, Any] = {"input_ids": tokens, "attention_mask": real.long(), "use_cache": False}
    if "position_ids" in inspect.signature(decoder.forward).parameters and not shown:
        named["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0)
    with _watched(sites, lambda routing: seen.update({routing.position: routing})):
        if shown:  # what they become is the whole model's matter
            with as_it_was(model), forward_as(projection(model), lambda hidden: hidden):
                model(**named, **shown)
        else:
            decoder(**named)
    read = [seen[position] for position in range(len(sites))]
    k = max(one.experts.shape[1] for one in read)  # a rule may have layers that use more
    each = ((one.logits, widened(one.weights.float(), k), widened(one.experts, k, NONE)) for one in read)
    logits, weights, experts = (
        torch.stack([part.to(tokens.device) for part in parts], 1).view(*tokens.shape, len(sites), -1)
        for parts in zip(*each, strict=True)
    )
    return logits, weights, experts
