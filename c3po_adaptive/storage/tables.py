"""Parquet that others may have written: read where it has the columns that are wanted, and its bytes can hold them.

A few bytes may stand for any number of values, by run lengths, and for any length of texts, by a dictionary. So numbers
are counted before they are read, and texts are read as they are kept, each once, and counted before they are repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import DataError, disk_says
from .files import check_there

MOST = 1024  # bytes that a byte may become: five times what records take, in which long words are repeated
LEAST = 2**26  # bytes that any file may become
NUMBER = 8  # bytes of a value, as it is used


def read_table(path: Path | str, wanted: Any, expected: str, remedy: str) -> Any:
    """An Arrow table of some of its columns.

    Args:
        path: of the file.
        wanted: the schema of these columns.
        expected: what it should be, for messages.
        remedy: what to do where it is something else, to end them with.

    Raises:
        DataError: no such file, no Parquet, a damaged one, columns of other types, or one that claims more than its
            bytes can stand for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_there(path, expected, remedy)
    try:
        size = Path(path).stat().st_size
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow, wanted)
            claimed, texts = _claimed(file, wanted.names)
        if claimed <= (room := max(LEAST, MOST * size)):
            with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
                table = file.read(columns=wanted.names).select(wanted.names)
            claimed += sum(_repeated(chunk) for column in table.columns for chunk in column.chunks)
        if claimed > room:
            raise ValueError(f"one of {size:,} bytes that claims {claimed:,}")
        found = table.cast(wanted.with_metadata(table.schema.metadata))
        found.validate(full=True)  # texts, too: bytes that are no UTF-8 would be seen where one is taken out
        return found
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


def _claimed(file: Any, names: list[str]) -> tuple[int, list[str]]:
    """Bytes that these columns take at least, as the file says, and the paths of those of text."""
    paths = [file.schema.column(i).path for i in range(file.metadata.num_columns)]
    own = [i for i, path in enumerate(paths) if path.partition(".")[0] in names]
    texts = [paths[i] for i in own if file.schema.column(i).physical_type == "BYTE_ARRAY"]
    claimed = NUMBER * max(file.metadata.num_rows, 0)
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for column in map(group.column, own):
            claimed += NUMBER * max(column.num_values, 0)
            claimed += max(column.total_uncompressed_size, 0) if column.path_in_schema in texts else 0
    return claimed, texts


def _repeated(chunk: Any) -> int:
    """Bytes of a chunk's texts, each as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    flat = chunk.flatten() if pa.types.is_list(chunk.type) else chunk
    if not pa.types.is_dictionary(flat.type):
        return 0
    return pc.sum(pc.binary_length(flat.dictionary).take(flat.indices)).as_py() or 0
