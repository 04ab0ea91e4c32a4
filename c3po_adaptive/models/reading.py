"""What every router of a model makes of every token, in one call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import SettingError, ShapeError
from ..routing.head import forward_as, projection
from ..routing.image_inputs import as_it_was, on_device
from ..routing.intercept import intercepted
from ..routing.modules import hooked, lock_of
from ..routing.packing import padded
from ..routing.sites import Site, decoder_of, router_scores
from ..routing.trace import NONE
from ..tasks.texts import listed
from .replaying import sites_of, transformers_model
from .routed import RoutedModel


@dataclass(frozen=True, eq=False)
class TokenRouting:
    """The routing of each token of a padded batch, in each MoE layer.

    Attributes:
        logits: ``[B, T, L, E]`` the routers' scores, float32; NaN at padding.
        weights: ``[B, T, L, k]`` what the experts' outputs are multiplied with (llama4: their inputs), float32; 0 at
            padding.
        experts: ``[B, T, L, k]`` ids of the experts that are used; -1 at padding.
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


def read_routing(model: RoutedModel | nn.Module, inputs: str | Sequence[str] | Mapping[str, Tensor]) -> TokenRouting:
    """Router logits, and the weights and ids of the experts that they led to, for every token and MoE layer.

    The decoder is run once, its head is not. Images are read, too: a processor's ``pixel_values`` and what it gives
    beside them. As with a call of the model, it is in the mode that the model is in, in training with dropout; and what
    comes back has gradients, unless that is under ``torch.no_grad()`` or the parameters are frozen, as a
    ``RoutedModel``'s are. Of a family whose routers hand out probabilities (gemma4's) it is their logarithms, which are
    the logits up to a number for each token.

    Called so because ``c3po_adaptive.routing`` is the package that finds and replaces routing.

    Args:
        model: a ``RoutedModel``, or one of transformers with PEFT's adapters or without.
        inputs: a text or several, which a ``RoutedModel`` has a tokenizer for and are padded on the left; or what a
            tokenizer gives: ``input_ids [B, T]``, and ``attention_mask [B, T]`` where there is padding, on either side;
            or what a processor gives for texts with images, ``pixel_values`` among it.

    Raises:
        SettingError: texts for a model without its tokenizer.
        ShapeError: ids or a mask of other shapes.
        DataError: no text, or one that has no tokens or more than the model can read.
        ModelError: the model is dense, or its routing cannot be reached.
    """
    base = transformers_model(model)
    tokens, real = _inputs(model, inputs)
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


def _inputs(model: RoutedModel | nn.Module, inputs: object) -> tuple[Tensor, Tensor]:
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
    if not isinstance(model, RoutedModel):
        raise SettingError(
            f"Expected what a tokenizer gives for {type(model).__name__}, got {type(inputs).__name__}; give "
            "tokenizer(texts, return_tensors='pt', padding=True), or a model of load_moe_model with texts."
        )
    texts = listed(cast(str | Sequence[str], inputs))
    return padded([model.encode_text(text).ids for text in texts], cast(int, model.tokenizer.pad_token_id))


def _beside(inputs: object, model: Any) -> dict[str, Any]:
    """What a processor gave beside the tokens, where images are among it."""
    if not isinstance(inputs, Mapping) or "pixel_values" not in inputs:
        return {}
    others = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    return {name: on_device(value, model) for name, value in others.items()}


def _read(
    model: Any, sites: Sequence[Site], tokens: Tensor, real: Tensor, shown: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[B, T, L, E]``, and weights and experts ``[B, T, L, k]``."""
    scores: dict[int, Tensor] = {}
    used: dict[int, tuple[Tensor, Tensor]] = {}

    def scoring(position: int, site: Site) -> Any:
        def score(module: nn.Module, args: Any, output: Any) -> None:
            scores[position] = router_scores(output, site)

        return score

    def read(position: int, index: Tensor, weights: Tensor) -> None:
        used[position] = index, weights.float()

    decoder = decoder_of(model)
    named: dict[str, Any] = {"input_ids": tokens, "attention_mask": real.long(), "use_cache": False}
    if "position_ids" in inspect.signature(decoder.forward).parameters and not shown:
        named["position_ids"] = (real.long().cumsum(1) - 1).clamp_min(0)
    handles = [site.router.register_forward_hook(scoring(position, site)) for position, site in enumerate(sites)]
    with hooked(handles), intercepted(sites, read):
        if shown:  # what they become is the whole model's matter
            with as_it_was(model), forward_as(projection(model), lambda hidden: hidden):
                model(**named, **shown)
        else:
            decoder(**named)
    order = range(len(sites))
    parts = ([scores[i] for i in order], [used[i][1] for i in order], [used[i][0] for i in order])
    logits, weights, experts = (
        torch.stack([one.to(tokens.device) for one in part], 1).view(*tokens.shape, len(sites), -1) for part in parts
    )
    return logits, weights, experts
