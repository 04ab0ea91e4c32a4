"""Questions from wherever they are: the one door for the command line, configurations and Python."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DataError
from ..storage.files import is_file
from ..types import Question
from .benchmarks import load_dataset_questions
from .files import DEMO_SPLITS, demo_questions, load_benchmark_files, load_questions

DATA = "C3PO_DATA"
"""Environment variable with a folder of benchmarks as files, ``NAME.SPLIT.jsonl``: looked into before the hub."""


def questions(source: str | Path, *, split: str | None = None, limit: int | None = None) -> list[Question]:
    """Questions of a source.

    Args:
        source: ``"demo"``; a JSON or JSONL file; the name of a benchmark (``"mmlu"``): its files in the folder that
            ``$C3PO_DATA`` names, else the hub's by the ``datasets`` library; a folder or a hub id of that library.
            ``name:split`` names a split of its own.
        split: which split; files and folders may leave it out, the others may not.
        limit: at most that many, spread over the source (see ``load_questions``).

    Raises:
        DataError: the source is missing, broken, or has no such split.
        UnknownNameError: no file, folder, benchmark or hub id of that name.
        ArtifactError: the ``datasets`` library is needed, and not installed.
    """
    name, split = _with_split(str(source), split)
    if name == "demo":
        if split is None:
            raise DataError(f"demo: expected a split, one of {', '.join(DEMO_SPLITS)}; got none.")
        return demo_questions(split, limit=limit)
    path = Path(name)
    if is_file(path) or path.suffix in (".json", ".jsonl"):
        return load_questions(path, split=split, limit=limit)
    folder = os.environ.get(DATA)
    if folder and "/" not in name and (files := sorted(Path(folder).glob(f"{name}.*jsonl"))):
        return load_benchmark_files(files, name, split=split, limit=limit)
    return load_dataset_questions(name, split=split, limit=limit)


def _with_split(source: str, split: str | None) -> tuple[str, str | None]:
    """``name:split`` apart; a path with a colon in it is a path."""
    name, colon, own = source.rpartition(":")
    if colon and own.isidentifier() and not Path(source).exists():
        return name, own
    return source, split
