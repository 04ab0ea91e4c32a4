"""Records without pathways and neighbours as one small Parquet file, from which every statistic of answers and costs
can be made again: some eight bytes an answer.

Nothing that a statistic asks for needs the level of an answer's scores, only how far they are apart, so that the right
choice's stand for zero and are left out. Numbers are whole thousandths, plane by plane of their bytes; what is the same
for all answers of an arm on a data set is one long word, which a dictionary keeps once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import DataError
from .files import whole
from .tables import read_table

PARQUET = "records.parquet"
AGAIN = "draw the run's report again, which writes it anew"
MAYBE = ("base_choice", "strength", "neighbours_used", "moved")
"""What a record may be without."""
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
    "layers",
    "strength",
    "neighbours_used",
)
BY_ARM = ("optimizer", "selector", "needs_label", "setting", "once", "labels", "parameters")
PHASES = ("prefill", "embedding", "retrieval", "references", "attribution", "optimisation", "answer")
SCORE = COST = 1e-3
MOVED = 1e-4
"""What is counted in whole numbers: nats, base forwards, and shares of a layer's weight."""


def write_parquet(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        DataError: the disk refuses it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns()
    rows = [_row(record) for record in _by_arm(records)]
    schema = _schema()
    leaves = {name: f"{name}.list.element" if pa.types.is_list(kind) else name for name, (kind, _) in columns.items()}
    try:
        with whole(path) as writing:
            pq.write_table(
                pa.Table.from_pylist(rows, schema),
                writing,
                compression="brotli",
                compression_level=11,
                use_dictionary=[leaves[name] for name, (_, coded) in columns.items() if coded == "words"],
                use_byte_stream_split=[leaves[name] for name, (_, coded) in columns.items() if coded == "planes"],
                store_schema=False,
                write_statistics=False,
            )
    except OSError as error:
        raise DataError(f"Expected to write {path}, got: {error}; free the disk, and run again.") from error


def read_parquet(path: Path | str) -> list[dict[str, Any]]:
    """Records as ``summarize`` takes them: neighbours are counted, not named, and the right choice has the score zero.

    Raises:
        DataError: no such file, or one of something else, or of an earlier version.
    """
    table = read_table(path, _schema(), "the Parquet records of a run", f"if an earlier version wrote it, {AGAIN}")
    for name in table.column_names:
        column = table[name]
        if name not in MAYBE and (column.null_count or _within(column).null_count):
            raise DataError(f"{path}: expected a value in every row of {name}, got some without; {AGAIN}.")
    try:
        return [_record(row) for row in table.to_pylist()]
    except ValueError as error:
        raise DataError(f"{path}: expected records of a run, got {error}; {AGAIN}.") from error


def _within(column: Any) -> Any:
    """What a column's lists hold; of no lists, the column itself."""
    import pyarrow as pa

    return column.combine_chunks().flatten() if pa.types.is_list(column.type) else column


def _by_arm(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """An arm's answers one after another, arms in the order they came: what is alike is kept in less."""
    order: dict[tuple[str, str], int] = {}
    for record in records:
        order.setdefault((record["dataset"], record["arm"]), len(order))
    return sorted(records, key=lambda record: order[record["dataset"], record["arm"]])


def _columns() -> dict[str, tuple[Any, str]]:
    """Arrow's type of each column, and how it is coded: words, planes of bytes, or plainly."""
    import pyarrow as pa

    word, small, whole_ = (pa.string(), "words"), (pa.int32(), "plain"), (pa.int32(), "planes")
    return {
        "id": (pa.string(), "plain"),
        **dict.fromkeys(("dataset", "split", "subject", "arm", "of_arm"), word),
        "seed": (pa.int64(), "words"),
        **dict.fromkeys(("answer", "choice", "base_choice"), small),
        "scores": (pa.list_(pa.int32()), "planes"),
        "layers": (pa.list_(pa.int32()), "words"),
        "strength": (pa.float32(), "planes"),
        "neighbours_used": (pa.int32(), "words"),
        "moved": whole_,
        **{f"cost_{phase}": whole_ for phase in PHASES},
    }


def _schema() -> Any:
    """Arrow's type of each column."""
    import pyarrow as pa

    return pa.schema([(name, kind) for name, (kind, _) in _columns().items()])


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    scores, right = record["scores"], record["answer"]
    moved = record.get("moved")
    return {
        **{key: record.get(key) for key in KEPT},
        "of_arm": json.dumps({key: record.get(key) for key in BY_ARM}, sort_keys=True),
        "scores": [round((score - scores[right]) / SCORE) for i, score in enumerate(scores) if i != right],
        "moved": None if moved is None else round(moved / MOVED),
        **{f"cost_{phase}": round(record["cost"].get(phase, 0.0) / COST) for phase in PHASES},
    }


def _record(row: dict[str, Any]) -> dict[str, Any]:
    choices = range(len(row["scores"]) + 1)
    if not {row["answer"], row["choice"], row["base_choice"] or 0} <= {*choices}:
        raise ValueError(f"an answer or a choice that is none of {len(choices)}, in {row['id']!r:.99}")
    if row["strength"] is not None and not math.isfinite(row["strength"]):
        raise ValueError(f"a strength of {row['strength']}, in {row['id']!r:.99}")
    cost = {phase: round(row.pop(f"cost_{phase}") * COST, 3) for phase in PHASES}
    scores = [round(score * SCORE, 3) for score in row["scores"]]
    scores.insert(row["answer"], 0.0)
    before = None if row["base_choice"] is None else row["base_choice"] == row["answer"]
    return row | {
        **_of_arm(row.pop("of_arm")),
        "scores": scores,
        "moved": None if row["moved"] is None else round(row["moved"] * MOVED, 4),
        "correct": row["choice"] == row["answer"],
        "base_correct": before,
        "cost": cost | {"total": round(sum(cost.values()), 3)},
        "neighbours": [],
        "pathway": {},
    }


@cache
def _of_arm(text: str) -> dict[str, Any]:
    """One object for all records of an arm.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict) or {*found} != {*BY_ARM}:
        raise ValueError(f"of_arm {text!r:.99}, which is no object of {', '.join(BY_ARM)}")
    return found
