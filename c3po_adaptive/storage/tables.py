"""Parquet that others may have written: read where its bytes can hold what it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DataError

MOST = 4096  # values of a byte: hundreds of times what a table takes in which little changes from row to row


def read_table(path: Path | str, expected: str, remedy: str) -> Any:
    """An Arrow table.

    Args:
        path: of the file.
        expected: what it should be, for messages.
        remedy: what to do where it is something else, to end them with.

    Raises:
        DataError: no such file, no Parquet, a damaged one, or one that claims more values than its bytes can stand for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        size = Path(path).stat().st_size
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
            table = file.read() if max(values, file.metadata.num_rows) <= MOST * size else None
            if len(set(names := file.schema_arrow.names)) < len(names):
                raise ValueError("a column stands there twice")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"Expected {expected} at {path}, got: {error!r}; {remedy}.") from None
    if table is None:
        raise DataError(f"Expected {expected} at {path}, got one that claims {values:,} in {size:,} bytes; {remedy}.")
    return table
