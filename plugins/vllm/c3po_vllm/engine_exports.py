"""Traces as vLLM and SGLang give them (``routed_experts``), for what replays their routing: ids, without weights."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from c3po_adaptive import DataError, SettingError, hookimpl
from c3po_adaptive.models.traced import Trace, TraceWriter
from c3po_adaptive.storage.files import atomic_file, check_own

SMALL = 256  # experts that vLLM (0.30) writes as uint8
OURS = "c3po_adaptive"  # in the place of the engine's own mark, so that no engine's answer is taken for ours


def export_trace(trace: Trace, engine: str, path: Path, decoder_layers: int) -> None:
    """Write a trace as an engine's answer has it: JSON with the token ids and ``routed_experts``.

    Args:
        trace: recorded without gaps from some token on to the one before the last, after which nothing is predicted.
        engine: ``vllm`` (base64 of a ``.npy``, ``[T - 1 - start, decoder layers, k]``) or ``sglang`` (base64 of int32
            of that shape). Zeros stand in dense layers, as these engines have it.
        path: of the file; ``.npy`` for vLLM is the array alone.
        decoder_layers: how many the model has.

    Raises:
        SettingError: another engine, or fewer decoder layers than the trace has.
        DataError: a trace with gaps, or something else lies there.
    """
    if engine not in LAYOUTS:
        raise SettingError(f"Expected an engine among {', '.join(LAYOUTS)}, got {engine!r}; choose one of these.")
    data = LAYOUTS[engine](trace, experts_of(trace, decoder_layers), path.suffix)
    check_own(path, _is_export, "an engine's routed_experts")
    try:
        with atomic_file(path) as writing:
            writing.write_bytes(data)
    except OSError as error:
        raise DataError(f"Expected to write {path}, got: {error}; free the disk, and export again.") from error


def first_recorded(trace: Trace) -> int:
    """The token that a trace's recording begins with, which ``c3po trace import --start`` has to be told.

    Raises:
        DataError: nothing is recorded, or there are gaps.
    """
    whole = trace.recorded.all(-1)
    start = int(whole.long().argmax())
    if not whole.any() or not trace.recorded[start:-1].all():
        raise DataError(
            "Expected a trace that is recorded from some token on to the one before the last, got one with gaps, which "
            "engines' layouts have no place for; record it whole."
        )
    return start


def experts_of(trace: Trace, decoder_layers: int) -> torch.Tensor:
    """Expert ids ``[T - 1 - start, decoder layers, k]``, zeros in dense layers.

    Raises:
        SettingError: fewer decoder layers than the trace has.
        DataError: nothing is recorded, or there are gaps.
    """
    if decoder_layers <= trace.layers[-1]:
        raise SettingError(
            f"Expected at least {trace.layers[-1] + 1} decoder layers, as the trace has experts of layer "
            f"{trace.layers[-1]}, got {decoder_layers}; name the model that the trace is of."
        )
    start = first_recorded(trace)
    ids = torch.zeros(len(trace.tokens) - 1 - start, decoder_layers, trace.experts.shape[-1], dtype=torch.long)
    ids[:, list(trace.layers)] = trace.experts[start:-1]
    return ids


def _vllm(trace: Trace, experts: torch.Tensor, suffix: str) -> bytes:
    """An answer of ``/v1/completions`` by vLLM 0.22 and later, all tokens as its prompt; or the array alone."""
    held = io.BytesIO()
    np.save(held, experts.numpy().astype(np.uint8 if trace.n_experts <= SMALL else np.int32))
    if suffix == ".npy":
        return held.getvalue()
    choice = {"index": 0, "token_ids": [], "routed_experts": base64.b64encode(held.getvalue()).decode()}
    answer = {"system_fingerprint": OURS, "prompt_token_ids": trace.tokens.tolist(), "choices": [choice]}
    return json.dumps(answer).encode()


def _sglang(trace: Trace, experts: torch.Tensor, suffix: str) -> bytes:
    """An answer of ``/generate`` by SGLang 0.5, all tokens as its prompt."""
    text = base64.b64encode(experts.numpy().astype("<i4").tobytes()).decode()
    answer = {"prompt_token_ids": trace.tokens.tolist(), "output_ids": []}
    return json.dumps(answer | {"meta_info": {"id": OURS, "routed_experts": text}}).encode()


LAYOUTS: dict[str, Callable[[Trace, torch.Tensor, str], bytes]] = {"vllm": _vllm, "sglang": _sglang}


@hookimpl
def register_trace_writers() -> dict[str, TraceWriter]:
    return {engine: partial(_write, engine) for engine in LAYOUTS}


def _write(engine: str, trace: Trace, path: Path, decoder_layers: int) -> None:
    export_trace(trace, engine, path, decoder_layers)


def _is_export(path: Path) -> bool:
    """Whether a file is an earlier export, which can be made again."""
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
        return OURS in (held.get("system_fingerprint"), held.get("meta_info", {}).get("id"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
