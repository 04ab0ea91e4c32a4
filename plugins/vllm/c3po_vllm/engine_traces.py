"""Traces of expert ids that vLLM, SGLang and prime-RL give; where weights do not come along, they are the router's, on
replay."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from c3po_adaptive import DataError, ModelError, RoutedModel, ShapeError
from c3po_adaptive.models.traced import NONE, Trace, check_tokens, of_experts

WHOLLY = "save the answer whole"
RECORDS = "turn its recording on, and look at what it gives before you save it"
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""Types of numbers that int64 holds without changing them."""
SENT = ("uint8", "int16", "uint16", "int32")
"""Types of numbers that engines send as bytes, little-endian."""


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


def from_sglang(
    model: RoutedModel, tokens: Tensor, routed_experts: str, *, start: int = 0, dtype: str = "int32"
) -> Trace:
    """The trace of SGLang's expert ids (``return_routed_experts``); its weights are the router's, on replay.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` ids of prompt and answer.
        routed_experts: base64 of ``[T - 1 - start, decoder layers, k]``.
        start: what ``routed_experts_start_len`` was.
        dtype: what ``routed_experts_dtype`` says beside them, where it is there (sgl-project/sglang#31219).

    Raises:
        DataError: token ids that the model does not have, or no base64 of such numbers.
        ShapeError: ids of other tokens, layers or experts, or none at all: zeros.
    """
    flat = torch.from_numpy(_sent(routed_experts, dtype).astype(np.int64))
    rows, top_k = len(tokens) - 1 - start, model.sites[0].top_k
    if rows < 1 or flat.numel() == 0 or flat.numel() % (rows * top_k):
        raise ShapeError(
            f"Expected expert ids of {rows} tokens, {top_k} for each in every layer, got {flat.numel()} numbers; give "
            "the tokens of prompt and answer, and the start that was asked for."
        )
    return _of_ids(model, "SGLang", tokens, flat.view(rows, -1, top_k), start)


def from_prime_rl(model: RoutedModel, tokens: Tensor, routed_experts: Mapping[str, Any]) -> Trace:
    """The trace of what prime-RL's server gives as ``routed_experts`` (PrimeIntellect-ai/prime-rl,
    ``src/prime_rl/inference/vllm/routed_experts.py``), expert ids; or, as its Total Router Recall packs them (#3523),
    int32 of twice the width: ids, and behind them the bits of their float32 weights.

    Args:
        model: of the same family and settings.
        tokens: ``[T]`` ids of prompt and answer.
        routed_experts: ``data``, base64 of ``[T - 1 - start, decoder layers, k]`` or ``[…, 2k]``; its ``shape`` and
            ``dtype`` (uint8 where it is not said, as older ones have it), and ``start``.

    Raises:
        DataError: token ids that the model does not have, or another payload than that.
        ShapeError: ids of other tokens, layers or experts, or none at all: zeros; or weights that are none.
        ModelError: weights of a model whose router scales them behind what is packed.
    """
    held = routed_experts
    shape, start, dtype = held.get("shape"), held.get("start", 0), held.get("dtype", "uint8")
    if not _are_counts(shape) or len(shape) != 3 or not _are_counts([start]):
        raise DataError(
            f"Expected a shape [tokens, layers, k] and a start beside the data, got {shape} and {start}; {WHOLLY}."
        )
    flat = _sent(held.get("data"), dtype)
    if math.prod(shape) != flat.size:
        raise DataError(
            f"Expected {math.prod(shape)} numbers of {dtype}, as their shape says, got {flat.size}; {WHOLLY}."
        )
    sent, top_k = flat.reshape(shape), model.sites[0].top_k
    if (dtype, shape[2]) != ("int32", 2 * top_k):
        return _of_ids(model, "prime-RL", tokens, torch.from_numpy(sent.astype(np.int64)), start)
    scale = getattr(model.model.config.get_text_config(), "routed_scaling_factor", None)
    if scale not in (None, 1):
        raise ModelError(
            f"Expected weights that experts are multiplied with, got those before the model scales them by {scale}; "
            "import the ids alone."
        )
    ids, weights = np.split(sent, 2, -1)
    found = _of_ids(model, "prime-RL", tokens, torch.from_numpy(ids.astype(np.int64)), start)
    rows = torch.from_numpy(np.ascontiguousarray(weights).view(np.float32))
    return replace(found, weights=_placed(model, tokens, rows, start, 0.0))


def _sent(data: Any, dtype: Any) -> Any:
    """The numbers of a type whose bytes are sent as base64.

    Raises:
        DataError: none, or of another type.
    """
    if dtype not in SENT:
        raise DataError(f"Expected expert ids as {', '.join(SENT)}, got {dtype!r}; {WHOLLY}.")
    try:
        return np.frombuffer(base64.b64decode(data, validate=True), np.dtype(dtype).newbyteorder("<"))
    except (binascii.Error, ValueError, TypeError) as error:
        raise DataError(f"Expected base64 of {dtype} expert ids, got something else ({error}); {WHOLLY}.") from None


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**31 for n in value)


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
    whole = _placed(model, tokens, ids.long(), start, NONE)
    _check_recorded(engine, whole[start:-1])
    return of_experts(model, tokens, whole, by=engine)


def _placed(model: RoutedModel, tokens: Tensor, rows: Tensor, start: int, elsewhere: float) -> Tensor:
    """``[T, L, k]`` of what an engine gives of the tokens between a start and the last, dense layers left out."""
    moe = rows if rows.shape[1] == len(model.layers) else rows[:, list(model.layers)]
    whole = torch.full((len(tokens), *moe.shape[1:]), elsewhere, dtype=rows.dtype)
    whole[start:-1] = moe
    return whole


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
