"""Files that hold what engines say of their routing, read into traces."""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
import tokenize
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from c3po_adaptive import C3POError, DataError, RoutedModel, SettingError, hookimpl
from c3po_adaptive.models.traced import LIMIT, NONE, Trace, TraceReader, of_router_logits
from c3po_adaptive.storage.files import check_there

from .engine_exports import register_trace_writers  # noqa: F401 (a hook of this plugin, too)
from .engine_traces import from_prime_rl, from_sglang, from_vllm
from .llama_traces import from_llama_cpp

AGAIN = "save the engine's answer again; docs/howto/traces.md shows how"
BROKEN = (tokenize.TokenError, SyntaxError)  # numpy reads headers as code
DEFLATED = 1032  # bytes that one byte of a .npz stands for, at most
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
FLAG = "the engine's flag --enable-return-routed-experts, and SGLang's request its return_routed_experts"


def import_trace(
    model: RoutedModel, engine: str, path: Path, *, tokens: Sequence[int] | None = None, start: int = 0
) -> Trace:
    """The trace in an engine's file.

    Args:
        model: of the same family and settings.
        engine: ``transformers`` (``.pt``, ``.safetensors``, ``.npz`` with ``input_ids`` and ``router_logits``),
            ``vllm`` (a JSON answer, or ``.npy`` of ``routed_experts``), ``sglang`` or ``prime-rl`` (a JSON answer) or
            ``llama.cpp`` (the CSV of ``moe-trace``).
        path: the file.
        tokens: ids of the whole sequence, where the file has not all of them.
        start: the first token whose experts were asked for, of vLLM and SGLang.

    Raises:
        SettingError: another engine, or a start for one whose file has none, or its own.
        DataError: a file that holds something else, or tokens other than those of the file.
        ShapeError: routing of other tokens, layers or experts, or none.
        ModelError: a family whose routers cannot be given logits.
    """
    if engine not in READERS:
        raise SettingError(f"Expected an engine among {', '.join(READERS)}, got {engine!r}; choose one of these.")
    try:
        return READERS[engine](model, path, None if tokens is None else list(tokens), start)
    except C3POError as error:
        said = str(error)
        raise error if said.startswith(str(path)) else type(error)(f"{path}: {said}") from error


@hookimpl
def register_trace_readers() -> dict[str, TraceReader]:
    return {engine: partial(_read, engine) for engine in READERS}


def _read(engine: str, model: RoutedModel, path: Path, tokens: Sequence[int] | None, start: int) -> Trace:
    return import_trace(model, engine, path, tokens=tokens, start=start)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(token) is int and 0 <= token < 2**31 for token in value)


def _transformers(model: RoutedModel, path: Path, tokens: list[int] | None, start: int) -> Trace:
    _check_no_start("transformers", start, "it gives logits of every token")
    held = _tensors(path)
    logits = held.get("router_logits")
    logits = list(logits) if _is_whole(logits) and logits.ndim and logits.numel() else logits
    if not isinstance(logits, list | tuple) or not all(map(_is_whole, logits)):
        raise DataError(f"{path}: expected router_logits, got {', '.join(map(str, held)) or 'nothing'}; {AGAIN}.")
    own = held.get("input_ids")
    if isinstance(own, Tensor) and (not _is_whole(own) or own.numel() == 0 or (own.ndim > 1 and own.shape[0] != 1)):
        raise DataError(
            f"{path}: expected input_ids of one text, [T] or [1, T], got {list(own.shape)}; save the logits of one "
            "text at a time."
        )
    ids = _tokens(path, own.flatten().tolist() if isinstance(own, Tensor) else None, [], tokens)
    return of_router_logits(model, ids, logits)


def _vllm(model: RoutedModel, path: Path, tokens: list[int] | None, start: int) -> Trace:
    if path.suffix == ".npy":
        check_there(path, "an engine's experts", AGAIN)
        experts = _array(path, lambda: _npy(path.read_bytes()))
        return from_vllm(model, _tokens(path, None, None, tokens), experts, start=start)
    answer = _answer(path)
    prompt = answer.get("prompt_routed_experts")
    return from_vllm(
        model,
        _tokens(path, answer.get("prompt_token_ids"), answer.get("token_ids"), tokens),
        _ids(path, answer.get("routed_experts")),
        prompt_routed_experts=None if prompt is None else _ids(path, prompt),
        start=start,
    )


def _sglang(model: RoutedModel, path: Path, tokens: list[int] | None, start: int) -> Trace:
    answer = _answer(path)
    prompt, new = answer.get("prompt_token_ids", answer.get("input_ids")), answer.get("output_ids")
    new = (
        new[0] if isinstance(new, list) and new and isinstance(new[0], list) else new
    )  # OpenAI's endpoints give them for each choice
    ids = _tokens(path, prompt, new, tokens)
    experts = answer.get("routed_experts")
    if not isinstance(experts, str):
        raise DataError(f"{path}: expected routed_experts as text, got {type(experts).__name__}; turn on {FLAG}.")
    return from_sglang(model, ids, experts, start=start, dtype=str(answer.get("routed_experts_dtype", "int32")))


def _prime_rl(model: RoutedModel, path: Path, tokens: list[int] | None, start: int) -> Trace:
    _check_no_start("prime-rl", start, "its file says where it begins")
    answer = _answer(path)
    ids = _tokens(path, answer.get("prompt_token_ids"), answer.get("token_ids"), tokens)
    experts = answer.get("routed_experts")
    if not isinstance(experts, dict):
        raise DataError(
            f"{path}: expected routed_experts with data, shape and dtype, got {type(experts).__name__}; of vLLM's own "
            f"server import it as vllm, or turn on {FLAG}."
        )
    return from_prime_rl(model, ids, experts)


def _llama_cpp(model: RoutedModel, path: Path, tokens: list[int] | None, start: int) -> Trace:
    _check_no_start("llama.cpp", start, "its file begins with the first token")
    check_there(path, "llama.cpp's moe-trace", AGAIN)
    try:
        lines = path.read_text(encoding="ascii").split()
        rows = np.loadtxt(lines, np.int64, comments=None, delimiter=",", ndmin=2) if lines else np.zeros((0, 0))
        if rows.shape[1:] != (2,):
            raise ValueError(f"{rows.shape[1]} numbers a line")
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected lines layer,expert, got: {_first_line(error)}; {AGAIN}.") from None
    return from_llama_cpp(model, _tokens(path, None, None, tokens), torch.from_numpy(rows))


def _check_no_start(engine: str, start: int, why: str) -> None:
    if start:
        raise SettingError(f"Expected no start for {engine}, got {start}; {why}.")


READERS: dict[str, Callable[[RoutedModel, Path, list[int] | None, int], Trace]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "sglang": _sglang,
    "prime-rl": _prime_rl,
    "llama.cpp": _llama_cpp,
}


def _tensors(path: Path) -> Mapping[str, object]:
    """Tensors by name, of any file that can hold them without running code."""
    check_there(path, "router logits", AGAIN)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            return {name: torch.from_numpy(_npy(data)) for name, data in _members(path)}
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of three formats; torch's unpickler raises whatever its stack happens to give
        wanted = "tensors alone" if isinstance(error, pickle.UnpicklingError) else "tensors"
        raise DataError(f"{path}: expected {wanted}, got: {_first_line(error)}; {AGAIN}.") from error
    return found if isinstance(found, Mapping) else {"router_logits": found}


def _is_whole(value: Any) -> TypeGuard[Tensor]:
    """Whether it is a tensor that has a place in memory for each of its numbers: a file may claim others."""
    return (
        isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each array of a ``.npz`` file.

    Raises:
        ValueError: they claim to be more than the file's bytes can become.
    """
    with zipfile.ZipFile(path) as held:
        claimed = sum(info.file_size for info in held.infolist())
        kinds = {info.compress_type for info in held.infolist()}
        if claimed > DEFLATED * path.stat().st_size or not kinds <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError(f"an archive that claims {claimed:,} bytes, or not one that numpy writes")
        for info in held.infolist():
            yield info.filename.removesuffix(".npy"), held.read(info)


def _npy(data: bytes) -> Any:
    """The array of a ``.npy`` file's bytes.

    Raises:
        ValueError: it is none, or its header claims more than the bytes hold, for which numpy would make room first.
    """
    opened = io.BytesIO(data)
    version = np.lib.format.read_magic(opened)
    if version not in HEADERS:
        raise ValueError(f"a .npy file of version {version}")
    shape, _, dtype = HEADERS[version](opened)
    if math.prod(shape) * dtype.itemsize > len(data):
        raise ValueError(f"an array that claims {math.prod(shape):,} numbers in {len(data):,} bytes")
    return np.load(io.BytesIO(data), allow_pickle=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _json(path: Path) -> Any:
    check_there(path, "an engine's answer", AGAIN)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON, got: {_first_line(error)}; {AGAIN}.") from None


def _answer(path: Path) -> dict[str, object]:
    """What an engine's JSON answer holds, with that of its only choice and of the parts that hold routing."""
    held = _json(path)
    if isinstance(held, list) and len(held) == 1:
        held = held[0]
    choices = held.get("choices", [{}]) if isinstance(held, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        got = f"{len(choices)} choices" if isinstance(choices, list) else type(held).__name__
        raise DataError(f"{path}: expected an answer with one choice, got {got}; ask for one, or keep one.")
    parts = (held, choices[0], *(held.get(name) for name in ("meta_info", "sglext", "sgl_ext")))
    return {key: value for part in parts if isinstance(part, dict) for key, value in part.items() if value is not None}


def _tokens(path: Path, prompt: Any, answer: Any, given: list[int] | None) -> Tensor:
    """Ids ``[T]`` of prompt and answer: those of a file, or those given, which have to agree with what the file has."""
    for part in (prompt, answer, given):
        if part is not None and not _are_ids(part):
            raise DataError(f"{path}: expected token ids as a list of whole numbers, got something else; {AGAIN}.")
    first, rest = (torch.tensor(part or [], dtype=torch.long) for part in (prompt, answer))
    if given is None:
        if prompt is None:
            raise DataError(f"{path}: expected token ids of the prompt, got none; give those of the whole by --tokens.")
        return torch.cat([first, rest])
    whole = torch.tensor(given)
    ends = whole[len(whole) - len(rest) :] if len(rest) <= len(whole) else whole[:0]
    if not torch.equal(ends, rest) or (prompt is not None and not torch.equal(whole, torch.cat([first, rest]))):
        raise DataError(f"{path}: expected the tokens of this file, got others; give those of prompt and answer.")
    return whole


def _ids(path: Path, experts: Any) -> Tensor:
    """Expert ids ``[rows, layers, k]`` of a list, or of the base64 of a ``.npy``."""
    if experts is None:
        raise DataError(f"{path}: expected routed_experts, got none; turn on {FLAG}.")
    if isinstance(experts, str):
        return _array(path, lambda: _npy(base64.b64decode(experts, validate=True)))
    return _array(path, lambda: np.array(experts))


def _array(path: Path, read: Callable[[], Any]) -> Tensor:
    try:
        held = read()
        if held.dtype.kind not in "iu":
            raise ValueError(f"values of {held.dtype}")
        if held.size and not NONE <= held.min() <= held.max() < LIMIT:
            raise ValueError(f"experts from {held.min()} to {held.max()}")
        return torch.from_numpy(held.astype(np.int64))
    except (OSError, ValueError, TypeError, EOFError, AttributeError, OverflowError, *BROKEN) as error:
        raise DataError(f"{path}: expected an array of expert ids, got: {_first_line(error)}; {AGAIN}.") from None
