"""Router logits that a trace's file holds beside its experts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from c3po_adaptive import DataError, ShapeError
from c3po_adaptive.models.traced import Trace, read_trace, write_trace
from c3po_adaptive.study import atomic_file

COLUMN = "logits"


def write_with_logits(trace: Trace, path: Path | str, logits: Tensor) -> Path:
    """Write a trace with a further column, which ``read_trace`` passes over.

    Args:
        trace: that is written.
        path: of the file.
        logits: ``[T, L, E]`` of its routers.

    Raises:
        DataError: as of ``write_trace``.
        ShapeError: logits of other tokens, layers or experts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    T, L, E = wanted = (*trace.experts.shape[:2], trace.n_experts)
    if logits.shape != wanted:
        raise ShapeError(f"Expected logits of shape {wanted}, got {tuple(logits.shape)}.")
    rows = pa.array(logits.detach().float().cpu().reshape(T * L, E).tolist(), pa.list_(pa.float32()))
    table = pq.read_table(write_trace(trace, path)).append_column(COLUMN, rows)
    with atomic_file(path) as writing:
        pq.write_table(table, writing, compression="zstd", write_page_checksum=True)
    return Path(path)


def logits_of(path: Path | str) -> Tensor | None:
    """Logits ``[T, L, E]`` of the routers, float32; None: the file has none.

    Raises:
        DataError: no trace, or logits of another shape or type than its experts ask for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    trace, schema = read_trace(path), pq.read_schema(path)
    if COLUMN not in schema.names:
        return None
    wanted = (*trace.experts.shape[:2], trace.n_experts)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            column = file.read(columns=[COLUMN])[COLUMN].combine_chunks()
        lengths = {*column.value_lengths().to_pylist()}
        numbers = column.flatten().to_numpy(zero_copy_only=True)
        if lengths - {wanted[2]} or column.type != pa.list_(pa.float32()):
            raise ValueError(f"{column.type}, {sorted(map(str, lengths))} a row")
    except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: expected logits {list(wanted)}, got another column ({error}); record again."
        ) from None
    return torch.tensor(numbers).reshape(wanted)
