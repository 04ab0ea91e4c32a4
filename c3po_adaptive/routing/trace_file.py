"""Traces on disk: Parquet, a row a token and layer, with a card in the file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from ..errors import DataError, SettingError, ShapeError, checked_call, disk_says
from ..storage.files import atomic_file, check_own
from ..storage.json_files import Ours, checked_json
from ..storage.tables import read_table
from .trace import LIMIT, Trace

SCHEMA_VERSION = 1
KEY = b"c3po_trace"
SAME = ("n_experts", "model", "name", "revision", "tokenizer", "prompt", "engine", "dtype")
"""What a card has as a trace has it."""
COLUMNS = ("position", "token", "layer", "experts", "weights")
Count = Annotated[int, Field(ge=1, lt=LIMIT)]
AGAIN = "record one: c3po trace record"


class TraceCard(Ours):
    """the card of a routing trace"""

    model_config = ConfigDict(strict=True)
    newest: ClassVar[int] = SCHEMA_VERSION
    schema_version: Annotated[int, Field(ge=1)]
    model: str
    name: str
    revision: str = ""
    tokenizer: str = ""
    engine: str = ""
    dtype: str = ""
    n_experts: Count
    layers: Annotated[list[Annotated[int, Field(ge=0, lt=LIMIT)]], Field(min_length=1)]
    tokens: Annotated[int, Field(ge=0, lt=2**31)]
    top_k: Count
    pieces: dict[Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,9})$")], str] = Field(default_factory=dict)
    prompt: Annotated[int, Field(ge=0)] = 0


def _schema() -> Any:
    """Arrow's type of each column."""
    import pyarrow as pa

    lists = pa.list_(pa.int16()), pa.list_(pa.float32())
    return pa.schema(zip(COLUMNS, (pa.int32(), pa.int32(), pa.int16(), *lists), strict=True))


@checked_call
def write_trace(trace: Trace, path: Path | str) -> Path:
    """Write a trace, whole or not at all.

    Raises:
        SettingError: something else than a trace to write.
        DataError: the disk refuses it, something else than a trace lies there, or a name is no text of whole
            characters.
    """
    if not isinstance(trace, Trace):
        raise SettingError(f"Expected write_trace(trace, path), got {type(trace).__name__} for the trace.")
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_place(path)
    T, L, k = trace.experts.shape
    card = {"schema_version": SCHEMA_VERSION, "layers": trace.layers, "tokens": T, "top_k": k}
    card |= {name: getattr(trace, name) for name in SAME} | {"pieces": {**trace.pieces}}
    written = json.dumps(card).encode()
    checked_json(TraceCard, written, f"{path}, not written", "give a trace that can be read again")
    weights = None if trace.weights is None else trace.weights.detach().float().reshape(T * L, k).tolist()
    columns = {
        "position": torch.arange(T).repeat_interleave(L).tolist(),
        "token": trace.tokens.repeat_interleave(L).tolist(),
        "layer": list(trace.layers) * T,
        "experts": trace.experts.reshape(T * L, k).tolist(),
        "weights": [None] * (T * L) if weights is None else weights,
    }
    table = pa.table(columns, _schema().with_metadata({KEY: written}))
    try:
        with atomic_file(path) as writing:
            pq.write_table(table, writing, compression="zstd", write_page_checksum=True)
    except OSError as error:
        raise DataError(
            f"Expected to write {path}, got: {disk_says(error)}; free the disk, and record again."
        ) from error
    return Path(path)


def check_place(path: Path | str) -> None:
    """Refuse to write a trace where something else lies.

    Raises:
        DataError: with where.
    """
    check_own(path, is_trace, "a trace")


def is_trace(path: Path) -> bool:
    """Whether a file says that it is one."""
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
    table = read_table(path, _schema(), "a routing trace", AGAIN)
    held = table.schema.metadata or {}
    if KEY not in held:
        raise DataError(f"Expected a routing trace at {path}, got a table without its card; {AGAIN}.")
    card = checked_json(TraceCard, held[KEY], str(path), AGAIN)
    if table.num_rows != card.tokens * len(card.layers):
        raise DataError(
            f"{path}: expected {card.tokens} tokens in {len(card.layers)} layers, got {table.num_rows} rows; record "
            "again."
        )
    return _trace(table, card, path)


def _trace(table: Any, card: TraceCard, path: Path | str) -> Trace:
    """The trace of a file's table, held against its card."""
    T, L, k = size = card.tokens, len(card.layers), card.top_k
    layers = torch.tensor(card.layers)
    position, layer = (_numbers(table[name], 1, path) for name in ("position", "layer"))
    if not (torch.equal(position, torch.arange(T).repeat_interleave(L)) and torch.equal(layer, layers.repeat(T))):
        raise DataError(f"{path}: expected rows by position, then by layer, got others; sort them, or {AGAIN}.")
    weights, alone = table["weights"], table["weights"].null_count == table.num_rows > 0
    if weights.null_count and not alone:
        raise DataError(f"{path}: expected weights in every row, or in none, got some without; {AGAIN}.")
    tokens = _numbers(table["token"], 1, path).view(T, L)
    if (tokens != tokens[:, :1]).any():
        raise DataError(f"{path}: expected one token id in all layers of a position, got several; {AGAIN}.")
    try:
        return Trace(
            tokens[:, 0],
            tuple(card.layers),
            _numbers(table["experts"], k, path).view(size),
            None if alone else _numbers(weights, k, path).view(size),
            pieces={int(token): text for token, text in card.pieces.items()},
            **{name: getattr(card, name) for name in SAME},
        )
    except ShapeError as error:
        raise DataError(f"{path}: {error}") from error


def _numbers(column: Any, each: int, path: Path | str) -> Tensor:
    """A column's numbers, so many a row, whole ones as int64.

    Raises:
        DataError: a row with more or fewer, or without one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    flat, lengths = column.combine_chunks(), []
    if pa.types.is_list(column.type):
        lengths, flat = pc.unique(pc.list_value_length(flat)).to_pylist(), flat.flatten()
    if column.null_count or flat.null_count or lengths not in ([], [each]):
        raise DataError(f"{path}: expected {each} numbers in every row of every column, got others; {AGAIN}.")
    found = torch.tensor(flat.to_numpy(zero_copy_only=False))
    return found if found.is_floating_point() else found.long()
