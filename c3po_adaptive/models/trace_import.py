"""Traces of what other engines say of their routing: transformers' router logits, vLLM's and SGLang's expert ids.

No engine says which weights it ran, so an imported trace is of an unknown model, and replayed as a foreign one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..routing.given_logits import routed_by
from ..routing.sites import decoder_layers
from ..routing.trace import NONE, Trace, repeated
from .names import public_name
from .routed import RoutedModel
from .traced import WHOLE, check_tokens, tokenizer_identity

RECORDS = "turn its recording on, and look at what it gives before you save it"


def from_transformers(model: RoutedModel, tokens: Tensor, router_logits: Sequence[Tensor]) -> Trace:
    """The trace of what ``output_router_logits=True`` gives for one sequence.

    Each router of the model makes experts and weights of its logits; so they are what transformers multiplied with.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` token ids.
        router_logits: of each MoE layer ``[T, E]`` or ``[1, T, E]``.

    Raises:
        DataError: token ids that the model does not have.
        ShapeError: logits of other layers, tokens or experts, or that are not finite.
        ModelError: a family whose routers cannot be given logits.
    """
    check_tokens(model, tokens)
    wanted = (len(model.layers), len(tokens), model.n_experts)
    logits = [part[0] if part.ndim == 3 and len(part) == 1 else part for part in router_logits]
    got = {tuple(part.shape) for part in logits}
    if (len(logits), got) != (wanted[0], {wanted[1:]}):
        raise ShapeError(
            f"Expected router logits (T, E) = {wanted[1:]} of {wanted[0]} MoE layers, got {len(logits)} of "
            f"{' and '.join(map(str, sorted(got)[:3])) or 'no shape'}; give those of one text, by a model of this kind."
        )
    if not all(part.is_floating_point() and part.float().isfinite().all() for part in router_logits):
        raise ShapeError("Expected finite router logits, got NaN or infinity; record again.")
    with model.lock:
        experts, weights = routed_by(model.model, model.sites, tokens, [part.float() for part in logits])
    return _of(model, "transformers", tokens, experts, weights)


def from_vllm(
    model: RoutedModel,
    tokens: Tensor,
    routed_experts: Tensor,
    *,
    prompt_routed_experts: Tensor | None = None,
    start: int = 0,
) -> Trace:
    """The trace of vLLM's expert ids (``enable_return_routed_experts``); its weights are the router's, on replay.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` ids of prompt and answer.
        routed_experts: ``[T - 1 - start, layers, k]`` (0.22 and later: all decoder layers), or with
            ``prompt_routed_experts`` those of the answer alone (0.21: MoE layers).
        prompt_routed_experts: ``[P, layers, k]`` of the prompt, by 0.21.
        start: what ``routed_experts_prompt_start`` was.

    Raises:
        DataError: token ids that the model does not have.
        ShapeError: ids of other tokens, layers or experts, or none at all: zeros.
    """
    ids = routed_experts
    if prompt_routed_experts is not None:
        if prompt_routed_experts.shape[1:] != ids.shape[1:]:
            raise ShapeError(
                "Expected expert ids of prompt and answer in the same layers, got shapes "
                f"{tuple(prompt_routed_experts.shape)} and {tuple(ids.shape)}; give those of one request."
            )
        ids = torch.cat([prompt_routed_experts, ids])
        if len(ids) == len(tokens) - start:  # 0.21 may count the last token, which is not run
            ids = ids[:-1]
    return _of_ids(model, "vLLM", tokens, ids, start)


def from_sglang(model: RoutedModel, tokens: Tensor, routed_experts: str, *, start: int = 0) -> Trace:
    """The trace of SGLang's expert ids (``return_routed_experts``); its weights are the router's, on replay.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` ids of prompt and answer.
        routed_experts: base64 of int32 ``[T - 1 - start, decoder layers, k]``.
        start: what ``routed_experts_start_len`` was.

    Raises:
        DataError: token ids that the model does not have, or no base64 of int32.
        ShapeError: ids of other tokens, layers or experts, or none at all: zeros.
    """
    try:
        plain = bytearray(base64.b64decode(routed_experts, validate=True))
        flat = torch.frombuffer(plain, dtype=torch.int32) if plain else torch.zeros(0)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"Expected base64 of int32 expert ids, got something else ({error}); save it whole.") from None
    rows, top_k = len(tokens) - 1 - start, model.sites[0].top_k
    if rows < 1 or flat.numel() == 0 or flat.numel() % (rows * top_k):
        raise ShapeError(
            f"Expected expert ids of {rows} tokens, {top_k} for each in every layer, got {flat.numel()} numbers; give "
            "the tokens of prompt and answer, and the start that was asked for."
        )
    return _of_ids(model, "SGLang", tokens, flat.view(rows, -1, top_k), start)


def _of_ids(model: RoutedModel, engine: str, tokens: Tensor, ids: Tensor, start: int) -> Trace:
    """A trace of expert ids ``[T - 1 - start, layers, k]``, in all decoder layers or in MoE layers alone."""
    check_tokens(model, tokens)
    rows, every, top_k = len(tokens) - 1 - start, len(decoder_layers(model.model)), model.sites[0].top_k
    if start < 0 or ids.ndim != 3 or len(ids) != rows or rows < 1:
        raise ShapeError(
            f"Expected expert ids (tokens, layers, k) of the {max(rows, 0)} tokens between {start} and the last, got "
            f"{tuple(ids.shape)}: {engine} gives none of the last one; give the tokens of prompt and answer together, "
            "and the start that was asked for."
        )
    if ids.shape[1] not in (every, len(model.layers)) or ids.shape[2] != top_k:
        raise ShapeError(
            f"Expected {top_k} experts in each of {every} decoder layers or {len(model.layers)} MoE layers, got "
            f"{ids.shape[2]} in {ids.shape[1]}; import with the model that {engine} ran."
        )
    if ids.dtype not in WHOLE:
        raise ShapeError(f"Expected expert ids as whole numbers of at most 64 bits, got {ids.dtype}; {RECORDS}.")
    experts = ids.long() if ids.shape[1] == len(model.layers) else ids.long()[:, list(model.layers)]
    _check_recorded(engine, experts)
    whole = torch.full((len(tokens), *experts.shape[1:]), NONE)
    whole[start:-1] = experts
    return _of(model, engine, tokens, whole, None)


def _check_recorded(engine: str, experts: Tensor) -> None:
    """Refuse ids that no router chose: one expert twice, which is what buffers that nobody wrote to hold."""
    twice = repeated(experts)
    if twice.any():
        token, position = twice.nonzero()[0].tolist()
        raise ShapeError(
            f"Expected different experts in each place, got {experts[token, position].tolist()} at token {token} of "
            f"MoE layer number {position}, and alike in {int(twice.sum())} of {twice.numel()} places: {engine} did not "
            f"record them; {RECORDS}."
        )
    if not (experts >= 0).all(-1).any():
        raise ShapeError(f"Expected expert ids, got none: {engine} recorded nothing; {RECORDS}.")


def _of(model: RoutedModel, engine: str, tokens: Tensor, experts: Tensor, weights: Tensor | None) -> Trace:
    name, tokenizer = f"{public_name(model.name)} by {engine}", tokenizer_identity(model)
    return Trace(tokens.long(), model.layers, experts, weights, model.n_experts, name=name, tokenizer=tokenizer)
