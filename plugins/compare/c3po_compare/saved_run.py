"""A run's folder as a table of plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from c3po_adaptive.errors import DataError
from c3po_adaptive.study import claimed_config, read_json

SUMMARY, RECORDS = "summary.json", "records.jsonl"


@dataclass(frozen=True, eq=False)
class SavedRun:
    """What a finished run wrote, in plain values; ``load_run`` reads it.

    Attributes:
        folder: of the run.
        config: that it was claimed by.
        summary: what ``summary.json`` holds.
    """

    folder: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows of its summary, one an arm and data set: ``pandas.DataFrame(run.table)`` is a table.

        What is nested stands flat (``cost_total``), and the arm's whole setting is left out: it is in ``summary``.
        """
        return [_flat(row) for row in self.summary.get("rows", ())]

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """Two arms beside each other, a row each; of a kind of study that compares none, none."""
        return [_flat(row) for row in self.summary.get("comparisons", ())]

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """A row for each answer, as ``records.jsonl`` holds them; a half-written last line is left out.

        Raises:
            DataError: there is no such file, or a line of it is broken.
        """
        path = self.folder / RECORDS
        if not path.is_file():
            raise DataError(
                f"Expected {RECORDS} in {self.folder}, found none: this run kept no answers; take its table."
            )
        *lines, _ = path.read_bytes().split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise DataError(f"{path}: expected a JSON object a line, got: {error}; delete that line.") from error

    def __repr__(self) -> str:
        return f"SavedRun({str(self.folder)!r}, {len(self.table)} rows)"


def load_run(folder: str | Path) -> SavedRun:
    """The results of a run of any kind of study, from its folder alone: no model is loaded.

    Args:
        folder: its ``--out``.

    Raises:
        DataError: it is no run folder, it is not finished, or a file in it is broken.
    """
    folder = Path(folder)
    config = claimed_config(folder)
    path = folder / SUMMARY
    if not path.is_file():
        raise DataError(
            f"Expected a run with its {SUMMARY} in {folder}, found none; give its command again to finish it, or "
            f"c3po report {folder} to sum up what there is."
        )
    summary = read_json(path, "run the study again")
    if not isinstance(summary, dict):
        raise DataError(f"{path}: expected a JSON object, got something else; run the study again.")
    return SavedRun(folder, config, summary)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One level of parts beside their names; the setting of an arm is none."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "setting":
            continue
        flat |= {f"{name}_{part}": x for part, x in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat
