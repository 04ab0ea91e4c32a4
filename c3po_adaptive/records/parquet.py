"""Records without pathways and neighbours as one small Parquet file, from which every statistic of answers and costs
can be made again: some eight bytes an answer.

Fields' declarations say which are stored, and how. Nothing that a statistic asks for needs the level of an answer's
scores, only how far they are apart, so that the right choice's stand for zero and are left out. What is the same for
all answers of an arm on a data set is one long word, which a dictionary keeps once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from ..errors import DataError, disk_says
from ..storage.files import atomic_file
from ..storage.json_files import checked, checked_json
from ..storage.tables import read_table
from .answer import AnswerCost, Answered, InParquet, OfArm

PARQUET = "records.parquet"
AGAIN = "draw the run's report again, which writes it anew"
WORD = "of_arm"


@dataclass(frozen=True)
class _Column:
    """A column of the table, as a field declares it."""

    name: str
    mark: InParquet
    value: Callable[[Answered], Any]
    several: bool = False
    maybe: bool = False

    @property
    def kind(self) -> Any:
        """Arrow's type of it."""
        import pyarrow as pa

        one = pa.type_for_alias(self.mark.type)
        return pa.list_(one) if self.several else one

    @property
    def leaf(self) -> str:
        return f"{self.name}.list.element" if self.several else self.name

    def coded(self, record: Answered) -> Any:
        unit = self.mark.unit
        return self._each(self.value(record), lambda x: round(x / unit) if unit else x)

    def decoded(self, value: Any) -> Any:
        unit = self.mark.unit
        return self._each(value, lambda x: round(x * unit, 4) if unit else x)

    def _each(self, value: Any, turned: Callable[[Any], Any]) -> Any:
        if value is None:
            return None
        return [turned(x) for x in value] if self.several else turned(value)


@cache
def _columns() -> tuple[_Column, ...]:
    phases = [_column(name, field, f"cost.{name}", f"cost_{name}") for name, field in AnswerCost.model_fields.items()]
    fields = [_column(name, field, name, name) for name, field in Answered.model_fields.items()]
    word = _Column(WORD, InParquet("string", "words"), _word)
    return word, *(column for column in (*fields, *phases) if column is not None)


def _column(name: str, field: FieldInfo, place: str, called: str) -> _Column | None:
    mark = next((mark for mark in field.metadata if isinstance(mark, InParquet)), None)
    if mark is None:
        return None
    value = _apart if name == "scores" else attrgetter(place)
    maybe = type(None) in get_args(field.annotation)
    return _Column(called, mark, value, get_origin(field.annotation) is tuple, maybe)


def _apart(record: Answered) -> list[float]:
    """Scores of wrong choices, above that of the right one."""
    right = record.scores[record.answer]
    return [score - right for i, score in enumerate(record.scores) if i != record.answer]


def _word(record: Answered) -> str:
    return json.dumps(record.model_dump(mode="json", include={*OfArm.model_fields}), sort_keys=True)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([(column.name, column.kind) for column in _columns()])


@dataclass(frozen=True)
class ModelIdentity:
    """The model that gave the answers, and what it was asked.

    Attributes:
        name: the model's.
        hash: of what identifies it.
        questions: hash of each data set's questions, by its name; empty: unknown, as of files written before.
    """

    name: str
    hash: str
    questions: Mapping[str, str] = field(default_factory=dict, compare=False)


def write_parquet(records: Iterable[Answered], path: Path, model: ModelIdentity | None = None) -> None:
    """Write the file, whole or not at all.

    Args:
        records: answers of one model.
        path: of the file.
        model: that gave them, written into the file's metadata; None: unknown.

    Raises:
        DataError: the disk refuses it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    records, columns = _by_arm(records), _columns()
    table = pa.table([pa.array(map(c.coded, records), c.kind) for c in columns], schema=_schema())
    try:
        with (
            atomic_file(path) as writing,
            pq.ParquetWriter(
                writing,
                table.schema,
                compression="brotli",
                compression_level=11,
                use_dictionary=[c.leaf for c in columns if c.mark.coded == "words"],
                use_byte_stream_split=[c.leaf for c in columns if c.mark.coded == "planes"],
                store_schema=False,
                write_statistics=False,
            ) as file,
        ):
            file.write_table(table)
            if model is not None:
                asked = json.dumps(dict(model.questions))
                file.add_key_value_metadata({"model": model.name, "model_hash": model.hash, "questions": asked})
    except OSError as error:
        raise DataError(f"Expected to write {path}, got: {disk_says(error)}; free the disk, and run again.") from error


def _by_arm(records: Iterable[Answered]) -> list[Answered]:
    """An arm's answers one after another, arms in the order they came: what is alike takes less."""
    arms: dict[tuple[str, str], list[Answered]] = {}
    for record in records:
        arms.setdefault((record.dataset, record.arm), []).append(record)
    return [record for own in arms.values() for record in own]


def read_parquet(path: Path | str) -> list[Answered]:
    """Records as ``summarize`` takes them; the right choice has the score zero.

    Raises:
        DataError: no such file, or one of something else.
    """
    return read_with_model(path)[0]


def read_with_model(path: Path | str) -> tuple[list[Answered], ModelIdentity | None]:
    """Records as of ``read_parquet``, and the model that gave them; None: the file does not name it, as older files."""
    table = read_table(path, _schema(), "the Parquet records of a run", AGAIN)
    for column in _columns():
        values = table[column.name]
        if not column.maybe and (values.null_count or _within(values).null_count):
            raise DataError(f"{path}: expected a value in every row of {column.name}, got some without; {AGAIN}.")
    known = {key.decode(errors="replace"): value for key, value in (table.schema.metadata or {}).items()}
    name, own = (known.get(key, b"").decode(errors="replace") for key in ("model", "model_hash"))
    asked = json.loads(known.get("questions", b"{}"))
    return list(_records(table, str(path))), ModelIdentity(name, own, asked) if own else None


def _within(column: Any) -> Any:
    """What a column's lists hold; of no lists, the column itself."""
    import pyarrow as pa

    return column.combine_chunks().flatten() if pa.types.is_list(column.type) else column


def _records(table: Any, path: str) -> Iterator[Answered]:
    columns = _columns()
    known = {word: checked_json(OfArm, word, path, AGAIN) for word in dict.fromkeys(table[WORD].to_pylist())}
    for values in zip(*(map(column.decoded, table[column.name].to_pylist()) for column in columns), strict=True):
        row = dict(zip((column.name for column in columns), values, strict=True))
        cost = {name.removeprefix("cost_"): row.pop(name) for name in [*row] if name.startswith("cost_")}
        row |= dict(known[row.pop(WORD)])  # one object for all records of an arm
        row["scores"].insert(row["answer"], 0.0)
        row["correct"] = row["choice"] == row["answer"]
        row["cost"] = AnswerCost(**cost, total=round(sum(cost.values()), 3))
        yield checked(Answered, row, path, AGAIN)
