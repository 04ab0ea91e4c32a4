"""Records without pathways and neighbours as one small Parquet file, from which every statistic of answers and costs
can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .files import whole

PARQUET = "records.parquet"
KEPT = (
    "id",
    "dataset",
    "split",
    "subject",
    "arm",
    "seed",
    "answer",
    "choice",
    "base_choice",
    "scores",
    "layers",
    "strength",
    "neighbours_used",
    "moved",
)
BY_ARM = ("optimizer", "selector", "needs_label", "setting", "once")
UNIT = 1e-5  # of scores, in nats: what records are rounded to; whole numbers take less room
COSTS = ("embedding", "references", "attribution", "optimisation", "answer", "total")


def write_parquet(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the file, whole or not at all. What all records of an arm on a data set share stands once, beside the rows.

    Raises:
        DataError: the disk refuses it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {key: record.get(key) for key in KEPT}
        | {"scores": [round(score / UNIT) for score in record["scores"]]}
        | {f"cost_{phase}": record["cost"].get(phase) for phase in COSTS}
        for record in records
    ]
    shared: dict[str, dict[str, Any]] = {}
    for r in records:
        shared.setdefault(r["dataset"], {})[r["arm"]] = {key: r.get(key) for key in BY_ARM}
    table = pa.Table.from_pylist(rows)
    for i, field in enumerate(table.schema):
        small = _small(field.type)
        table = table.set_column(i, field.name, table.column(i).cast(small))
    table = table.replace_schema_metadata({"shared": json.dumps(shared)})
    numbers = [name for name in _leaves(table) if name.startswith(("scores", "cost"))]
    try:
        with whole(path) as writing:
            pq.write_table(
                table,
                writing,
                compression="zstd",
                compression_level=19,
                use_dictionary=[name for name in _leaves(table) if name not in numbers],
                use_byte_stream_split=numbers,
            )
    except OSError as error:
        raise DataError(f"Expected to write {path}, got: {error}; free the disk, and run again.") from error


def read_parquet(path: Path | str) -> list[dict[str, Any]]:
    """Records as ``summarize`` takes them; their neighbours are counted, not named.

    Raises:
        DataError: no such file, or of something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        shared = json.loads(table.schema.metadata[b"shared"])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise DataError(f"Expected the Parquet records of a run at {path}, got: {error!r}.") from error
    return [_record(row, shared) for row in table.to_pylist()]


def _record(row: dict[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    cost = {phase: row.pop(f"cost_{phase}") for phase in COSTS}
    row |= shared[row["dataset"]][row["arm"]]
    if "neighbours" in row:  # before they were counted beyond those that a record names
        row["neighbours_used"] = row.pop("neighbours")
    row["scores"] = [round(score * UNIT, 5) for score in row["scores"]]
    before = None if row["base_choice"] is None else row["base_choice"] == row["answer"]
    right = {"correct": row["choice"] == row["answer"], "base_correct": before}
    return row | right | {"cost": cost, "neighbours": [], "pathway": {}}


def _leaves(table: Any) -> list[str]:
    """Columns as Parquet names them."""
    import pyarrow as pa

    return [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in table.schema]


def _small(kind: Any) -> Any:
    """Half the width: costs are rounded when they are recorded."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_small(kind.value_type))
    if pa.types.is_float64(kind):
        return pa.float32()
    if pa.types.is_int64(kind):
        return pa.int32()
    return pa.int32() if pa.types.is_null(kind) else kind
