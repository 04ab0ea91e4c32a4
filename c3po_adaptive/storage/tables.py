"""Parquet that others may have written: read where it has the columns that are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DataError, disk_says
from .files import check_there


def read_table(path: Path | str, wanted: Any, expected: str, remedy: str) -> Any:
    """An Arrow table of some of its columns.

    Args:
        path: of the file.
        wanted: the schema of these columns.
        expected: what it should be, for messages.
        remedy: what to do where it is something else, to end them with.

    Raises:
        DataError: no such file, no Parquet, a damaged one, or columns of other types.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_there(path, expected, remedy)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_columns(file.schema_arrow, wanted)
            table = file.read(columns=wanted.names).select(wanted.names)
        table.validate(full=True)  # texts, too: bytes that are no UTF-8 would be seen where one is taken out
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        got = disk_says(error) if type(error) is ValueError or isinstance(error, OSError) else repr(error)
        raise DataError(f"Expected {expected} at {path}, got {got}; {remedy}.") from None


def _check_columns(there: Any, wanted: Any) -> None:
    """Raise ValueError where a column that is wanted is not there, twice, or of another type."""
    for field in wanted:
        found = [str(other.type) for other in there if other.name == field.name]
        if len(found) != 1 or there.field(field.name).type != field.type:
            got = " and ".join(found) or "none"
            raise ValueError(f"{got} for the column {field.name}, which is of {field.type}")
