"""Traces of expert ids that vLLM and SGLang give; their weights are the router's, on replay."""

from __future__ import annotations

import base64
import binascii

import torch
from torch import Tensor

from c3po_adaptive import DataError, RoutedModel, ShapeError
from c3po_adaptive.models.traced import NONE, Trace, check_tokens, of_experts

RECORDS = "turn its recording on, and look at what it gives before you save it"
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of numbers that int64 holds without changing them."""


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
    rows, top_k = len(tokens) - 1 - start, model.sites[0].top_k
    every = model.model.config.get_text_config().num_hidden_layers
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
    return of_experts(model, tokens, whole, by=engine)


def _check_recorded(engine: str, experts: Tensor) -> None:
    """Refuse ids that no router chose: one expert twice, which is what buffers that nobody wrote to hold."""
    ordered = experts.sort(-1).values
    twice = ((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != NONE)).any(-1)
    if twice.any():
        token, position = twice.nonzero()[0].tolist()
        raise ShapeError(
            f"Expected different experts in each place, got {experts[token, position].tolist()} at token {token} of "
            f"MoE layer number {position}, and alike in {int(twice.sum())} of {twice.numel()} places: {engine} did not "
            f"record them; {RECORDS}."
        )
    if not (experts >= 0).all(-1).any():
        raise ShapeError(f"Expected expert ids, got none: {engine} recorded nothing; {RECORDS}.")
