"""A run's records as JSONL: a row for each answer, safe against interruption."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import DataError, disk_says
from ..progress import RESUMES
from ..storage.files import is_file
from ..storage.json_files import checked_json
from ..storage.run_folder import RECORDS, check_files
from .base import Key, Record

R = TypeVar("R", bound=Record)


class Records(Generic[R]):
    """The records of a run folder, open for more.

    Opening cuts off a half-written last line (what an interruption leaves), so that the next row starts on a new line;
    that sample is simply answered again.

    Args:
        folder: of the run.
        kind: of its records.
        check: raises if one that is there cannot be.
    """

    def __init__(self, folder: Path | str, kind: type[R], check: Callable[[R], None] = lambda row: None) -> None:
        self.path, self.kind = Path(folder) / RECORDS, kind
        check_files(Path(folder), [RECORDS])
        rows = self._repair()
        for row in rows:
            check(row)
        self._done = {row.key for row in rows}
        RESUMES.set(RESUMES.get() or bool(self._done))

    def _repair(self) -> list[R]:
        if not self.path.exists():
            return []
        rows = read_records(self.path.parent, self.kind)  # what cannot be read stays as it is
        size = len(_whole_lines(self.path.read_bytes()))
        if size < self.path.stat().st_size:
            os.truncate(self.path, size)
        return rows

    def done(self) -> set[Key]:
        """Keys of the rows already there."""
        return set(self._done)

    def append(self, row: R) -> None:
        """Add a row as one write, so that an interruption can cut the last line only.

        Raises:
            DataError: its key is already there, or the disk refuses it.
        """
        if row.key in self._done:
            raise DataError(
                f"Expected one row per arm, data set, id and seed, got {row.key} twice; skip what done() holds."
            )
        line = f"{row.model_dump_json()}\n".encode()
        try:
            with open(self.path, "ab", buffering=0) as file:
                written = file.write(line)
        except OSError as error:
            raise DataError(
                f"Expected to append to {self.path}, got: {disk_says(error)}; free the disk or name another --out."
            ) from error
        if written != len(line):
            raise DataError(
                f"Expected to write {len(line)} bytes to {self.path}, got {written}; free disk space, then resume."
            )
        self._done.add(row.key)
        RESUMES.set(True)


def read_records(folder: Path | str, kind: type[R]) -> list[R]:
    """Records of a run folder, which stays untouched; a half-written last line is left out.

    Raises:
        DataError: no such file; or a line that is no such record, or another's again (named by file and line).
    """
    path = Path(folder) / RECORDS
    if not is_file(path):
        raise DataError(f"Expected a run folder with {RECORDS}, found no {path}; name the folder that --out named.")
    rows: dict[Key, R] = {}
    # Split at b"\n" alone: splitlines() also splits at characters that JSON strings may hold.
    for number, line in enumerate(_whole_lines(path.read_bytes()).split(b"\n")[:-1], start=1):
        row = checked_json(kind, line, f"line {number} of {path}", "delete that line, and the run answers it again")
        if row.key in rows:
            raise DataError(
                f"line {number} of {path}: expected each answer once, got {row.key} again; delete that line."
            )
        rows[row.key] = row
    return list(rows.values())


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
