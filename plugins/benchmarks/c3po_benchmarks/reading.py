"""The source of questions: benchmarks by name, data sets of the Hub, folders that the ``datasets`` library reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from os.path import isdir  # of a name that none can have it says no
from pathlib import Path

from c3po_adaptive import DataError, Question, read_question
from c3po_adaptive.errors import suggestion
from c3po_adaptive.tasks import of_split

from .library import from_folder, from_hub, saved, splits_of
from .published import BENCHMARKS, FILES_ONLY, Benchmark, Fields, Row

Placed = tuple[str, Question]
"""A question with the place it was read from, for messages."""


class _Source:
    """Called as each source is, and by names without its prefix.

    Attributes:
        names: the benchmarks.
    """

    names = (*BENCHMARKS, *FILES_ONLY)

    def takes(self, name: str) -> bool:
        """Whether it is a benchmark's name, a folder for the library, or, where no folder is meant, a hub id."""
        path = Path(name)
        if name in self.names or (isdir(path) and (saved(path) or not any(path.glob("*.jsonl")))):
            return True
        return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not isdir(path.parent)

    def __call__(
        self, name: str, *, split: str | None, usual: Sequence[str] = (), revision: str | None = None
    ) -> list[Placed]:
        """Questions of a benchmark, a hub id or a local folder, each behind the place that it is from.

        Args:
            name: a name in ``BENCHMARKS``; or a folder written by ``Dataset.save_to_disk`` or one that
                ``load_dataset`` reads (Parquet, JSON, CSV files); or a hub id ``owner/name``. The last two have the
                columns of our schema, or an ``answerKey`` (see ``load_questions``). A folder called like a benchmark
                is meant by ``./name``.
            split: the split. None: the first of the usual ones that there is; without any, all of a folder.
            usual: see ``c3po_adaptive.tasks.questions``; a hub id is asked for its splits.
            revision: commit, tag or branch on the hub; None: the benchmark's own.

        Raises:
            DataError: the data set cannot be reached, or has not this split or these columns.
            ArtifactError: the library ``datasets`` is not installed.
        """
        if name in FILES_ONLY:
            raise DataError(
                f"Expected a file {name}.SPLIT.jsonl in the folder that $C3PO_DATA names, got none: {FILES_ONLY[name]}"
                "; put it there in our schema, with the pronoun as a blank (_) and the candidates as choices."
            )
        if name not in BENCHMARKS and isdir(name):
            tables = from_folder(Path(name)).items()
            return of_split([one for part, rows in tables for one in _read(rows, name, part, dict)], split, name, usual)
        benchmark = BENCHMARKS.get(name) or Benchmark(name, (), dict)
        return published_questions(benchmark, name, _labeled(benchmark, name, split, usual, revision), revision)


source = _Source()


def _labeled(benchmark: Benchmark, name: str, split: str | None, usual: Sequence[str], revision: str | None) -> str:
    """The split, or the one that is meant where none is named; one with labels."""
    if split is None and len(benchmark.splits) == 1:
        return benchmark.splits[0]
    if split is None and usual:
        there = benchmark.splits or splits_of(name, revision)
        split = next((one for one in usual if one in there), None)
    if split is None or (benchmark.splits and split not in benchmark.splits):
        how = f"name one with split, or as {name}:{(benchmark.splits or ('validation',))[-1]}."
        hint = suggestion(str(split), benchmark.splits, how) if benchmark.splits else how
        raise DataError(f"{name}: expected a labeled split, got {split!r}; {hint}")
    return split


def published_questions(benchmark: Benchmark, name: str, split: str, revision: str | None = None) -> list[Placed]:
    """All questions of a split of the hub, each behind the place that it is from, as a source gives them.

    Args:
        benchmark: where it is published, and how its rows are read.
        name: task of its questions, and what their ids begin with.
        split: of the hub's.
        revision: commit, tag or branch; None: the benchmark's own.

    Raises:
        DataError: the data set cannot be reached, or has other columns.
        ArtifactError: the library ``datasets`` is not installed.
    """
    pinned = revision or benchmark.revision
    rows: Iterable[Row] = (
        {**row, "subject": config} if benchmark.subjects else row
        for config in benchmark.subjects or (benchmark.config,)
        for row in from_hub(benchmark.path, config, split, pinned)
    )
    return _read(rows, name, split, benchmark.fields)


def _read(rows: Iterable[Row], name: str, split: str, fields: Callable[[Row], Fields | None]) -> list[Placed]:
    """Checked questions with their places; a row's own id and split win over ``<name>.<split>.<index>``, ``split``."""
    task = Path(name).name
    stem = f"{task}.{split}" if split else task
    placed = []
    for index, row in enumerate(rows):
        where = f"{name} ({split}), row {index}" if split else f"{name}, row {index}"
        if (found := _converted(fields, row, where)) is not None:
            own = {key: value for key, value in found.items() if value is not None}
            filled = {"id": f"{stem}.{index:05d}", "task": task, "split": split} | own
            placed.append((where, read_question(filled, where)))
    return placed


def _converted(fields: Callable[[Row], Fields | None], row: Row, where: str) -> Fields | None:
    try:
        return fields(row)
    except KeyError as error:
        raise DataError(
            f"{where}: expected the column {error}, got {', '.join(map(repr, row))}: the data set is published "
            "otherwise now; pin a revision that has it, or put a file NAME.SPLIT.jsonl into the folder that $C3PO_DATA "
            "names."
        ) from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f"{where}: expected a labeled row of this benchmark, got {_short(row)} ({error}); choose a split with "
            "labels, or pin a revision whose rows have the expected form."
        ) from error


def _short(row: Row) -> str:
    text = str(dict(row))
    return text if len(text) <= 200 else f"{text[:199]}…"
