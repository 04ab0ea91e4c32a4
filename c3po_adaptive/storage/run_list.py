"""All runs below a folder, without reading their answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import DataError
from .files import is_file
from .json_files import read_json
from .run_folder import CONFIG, DRAWN, RECORDS, claimed_config, is_run, made_by

SUMMARY = DRAWN[0]
FINISHED, UNFINISHED, BROKEN = "finished", "not finished", "summary cannot be read"


@dataclass(frozen=True)
class ListedRun:
    """A run among others.

    Attributes:
        folder: where it is.
        kind: of study.
        model: its name; "" where that is not known.
        datasets: names of what was asked.
        arms: names of what answered.
        state: ``finished``, ``not finished``, or that its summary cannot be read.
        changed: when it was last written to, local time, to the second.
    """

    folder: str
    kind: str
    model: str
    datasets: tuple[str, ...]
    arms: tuple[str, ...]
    state: str
    changed: str


def runs_below(folder: str | Path) -> list[ListedRun]:
    """Every run in a folder and those in it, the latest first; links are not followed, nor is a run looked into.

    Raises:
        DataError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise DataError(f"Expected a folder with runs, but there is no folder {folder}; name one that --out was in.")
    return sorted(map(_listed, _claimed(Path(folder))), key=lambda run: run.changed, reverse=True)


def _claimed(folder: Path) -> Iterator[Path]:
    for place, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if CONFIG in files and is_run(place):
            inner.clear()
            yield Path(place)


def _listed(folder: Path) -> ListedRun:
    config, made = claimed_config(folder), made_by(folder) or {}
    written = [folder / name for name in (CONFIG, RECORDS, SUMMARY) if is_file(folder / name)]
    changed = datetime.fromtimestamp(max(path.stat().st_mtime for path in written))
    return ListedRun(
        folder=str(folder),
        kind=str(config.get("kind", "comparison")),
        model=str(made.get("model") or config.get("model") or ""),
        datasets=_names(config.get("datasets")),
        arms=_names(config.get("arms")),
        state=_state(folder),
        changed=changed.isoformat(" ", "seconds"),
    )


def _names(parts: Any) -> tuple[str, ...]:
    """Of a mapping of names, or of a list of parts that have one."""
    if isinstance(parts, Mapping):
        return tuple(map(str, parts))
    named = parts if isinstance(parts, Sequence) and not isinstance(parts, str) else ()
    return tuple(str(part["name"]) for part in named if isinstance(part, Mapping) and "name" in part)


def _state(folder: Path) -> str:
    if not is_file(folder / SUMMARY):
        return UNFINISHED
    try:
        summary = read_json(folder / SUMMARY, "run the study again")
    except DataError:
        return BROKEN
    return UNFINISHED if isinstance(summary, dict) and summary.get("missing") else FINISHED
