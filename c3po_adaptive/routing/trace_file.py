"""Traces on disk: Parquet, a row a token and layer, with a card in the file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from ..errors import DataError, ShapeError
from ..storage.files import check_own, whole
from ..storage.json_files import Ours, checked
from .trace import Trace

SCHEMA_VERSION = 1
KEY = b"c3po_trace"
COLUMNS = ("position", "token", "layer", "experts", "weights")
Count = Annotated[int, Field(ge=0, lt=2**15)]
AGAIN = "record one: c3po trace record"


class Card(Ours):
    """the card of a routing trace"""

    newest: ClassVar[int] = SCHEMA_VERSION
    schema_version: int
    model: str
    name: str
    revision: str = ""
    tokenizer: str = ""
    n_experts: Count
    layers: list[Count]
    tokens: Annotated[int, Field(ge=0)]
    top_k: Count


def write_trace(trace: Trace, path: Path | str) -> Path:
    """Write a trace, whole or not at all.

    Raises:
        DataError: the disk refuses it, or something else than a trace lies there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_place(path)

    T, L, k = trace.experts.shape
    card = {"schema_version": SCHEMA_VERSION, "model": trace.model, "name": trace.name, "n_experts": trace.n_experts}
    card |= {"revision": trace.revision, "tokenizer": trace.tokenizer, "layers": trace.layers, "tokens": T, "top_k": k}
    weights = None if trace.weights is None else trace.weights.detach().float().reshape(T * L, k).tolist()
    columns = {
        "position": pa.array(torch.arange(T).repeat_interleave(L).tolist(), pa.int32()),
        "token": pa.array(trace.tokens.repeat_interleave(L).tolist(), pa.int32()),
        "layer": pa.array(list(trace.layers) * T, pa.int16()),
        "experts": pa.array(trace.experts.reshape(T * L, k).tolist(), pa.list_(pa.int16())),
        "weights": pa.array([None] * (T * L) if weights is None else weights, pa.list_(pa.float32())),
    }
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(card).encode()})
    try:
        with whole(path) as writing:
            pq.write_table(table, writing, compression="zstd", write_page_checksum=True)
    except OSError as error:
        raise DataError(f"Expected to write {path}, got: {error}; free the disk, and record again.") from error
    return Path(path)


def check_place(path: Path | str) -> None:
    """Refuse to write a trace where something else lies.

    Raises:
        DataError: with where.
    """
    check_own(path, _is_trace, "a trace")


def _is_trace(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return KEY in (pq.read_metadata(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def read_trace(path: Path | str) -> Trace:
    """Read what ``write_trace`` wrote.

    Raises:
        DataError: no such file, no trace, a newer one, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
        held = json.loads((table.schema.metadata or {})[KEY])
    except (OSError, pa.ArrowException, KeyError, ValueError, RecursionError) as error:
        raise DataError(f"Expected a routing trace at {path}, got: {error!r}; {AGAIN}.") from None
    card = checked(Card, held, str(path), AGAIN)
    T, layers, k = card.tokens, card.layers, card.top_k
    if table.num_rows != T * len(layers) or {*COLUMNS} - {*table.column_names}:
        raise DataError(
            f"{path}: expected {T} tokens in {len(layers)} layers, got {table.num_rows} rows; record again."
        )
    places = list(zip(table["position"].to_pylist(), table["layer"].to_pylist(), strict=True))
    if places != [(position, layer) for position in range(T) for layer in layers]:
        raise DataError(f"{path}: expected rows by position, then by layer, got others; sort them, or {AGAIN}.")
    try:
        weights = table["weights"].to_pylist()
        if any(one is None for one in weights) and not all(one is None for one in weights):
            raise DataError(f"{path}: expected weights in every row, or in none, got some without; {AGAIN}.")
        size = (T, len(layers), k)
        return Trace(
            torch.tensor(table["token"].to_pylist()[:: len(layers)]),
            tuple(layers),
            torch.tensor(table["experts"].to_pylist(), dtype=torch.long).view(size),
            None if weights and weights[0] is None else torch.tensor(weights).view(size),
            card.n_experts,
            card.model,
            card.name,
            card.revision,
            card.tokenizer,
        )
    except (ShapeError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: {error}") from error
