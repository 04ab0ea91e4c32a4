"""Questions from wherever they are: the one door for the command line, configurations and Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import escape
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from .. import elsewhere
from ..errors import C3POError, DataError, PluginError, UnknownNameError
from ..storage.files import is_file, is_folder
from ..types import Question
from .benchmarks import BENCHMARKS, SAVED, load_dataset_questions
from .question_files import (
    DEMO_SPLITS,
    Placed,
    demo_questions,
    first,
    load_benchmark_files,
    load_questions,
    read_question,
    unique,
)

DATA = "C3PO_DATA"
"""Environment variable with a folder of benchmarks as files, ``NAME.SPLIT.jsonl``: looked into before the hub."""
ASKED = ("test", "validation")
"""Usual splits of what is asked."""
LEARNED_FROM = ("references", "train", "validation")
"""Usual splits of references."""
GROUP = "c3po_adaptive.sources"
"""Sources of installed packages: entry points of this group, functions by the prefix that names them.

``mine:NAME:SPLIT`` calls that of ``mine`` with ``(NAME, split=SPLIT, usual=USUAL)``, see ``questions``. It gives rows
as a JSONL file has them (``load_questions``), or questions, each behind the place that it is from, for messages; and
raises a ``C3POError`` where it has none. Where the sets are its own, and none is another source's of that name, it has
the attribute ``sets``, names of some: tables call them ``mine:NAME``, and who misspells one is told of them. They are
looked up without the registry: questions are read before there is one.
"""
ROLE = "source of questions"


def questions(
    source: str | Path, *, split: str | None = None, limit: int | None = None, usual: Sequence[str] = ()
) -> list[Question]:
    """Questions of a source.

    Args:
        source: ``"demo"``; a JSON or JSONL file; the name of a benchmark (``"mmlu"``): its files in the folder that
            ``$C3PO_DATA`` names, else the hub's by the ``datasets`` library; a folder of benchmarks as files
            (``NAME.SPLIT.jsonl``, ``SPLIT.jsonl``); a folder or a hub id of that library; or ``PREFIX:NAME`` of an
            installed package (see ``GROUP``), such as ``bed:KIND`` or ``lm_eval:TASK``. ``name:split`` names a split
            of its own.
        split: which split; what has splits and is no file or folder needs one, or usual ones.
        limit: at most that many, spread over the source (see ``load_questions``).
        usual: splits of which the first that the source has is taken where none is named; a source without splits is
            taken whole. ``ASKED`` and ``LEARNED_FROM`` are those of test questions and of references.

    Raises:
        DataError: the source is missing, broken, or has no such split.
        UnknownNameError: no file, folder, benchmark or hub id of that name.
        ArtifactError: the ``datasets`` library, or what a package's source reads, is needed, and not installed.
        PluginError: a package's source fails.
    """
    prefix, name = brought(str(source))
    if prefix:
        name, split = _with_split(name, split)
        return first(unique([*_of_package(prefix, name, split, usual)], f"{prefix}:{name}"), limit)
    name, split = _with_split(str(source), split)
    if not name or "\0" in name:
        raise DataError(f"Expected a source of questions, got {name!r}; name a file, a folder, a benchmark or demo.")
    if name == "demo":
        split = split if split is not None else next((one for one in usual if one in DEMO_SPLITS), None)
        if split is None:
            raise DataError(f"demo: expected a split, one of {', '.join(DEMO_SPLITS)}; got none; write demo:test.")
        return demo_questions(split, limit=limit)
    path = Path(name)
    if is_file(path) or path.suffix in (".json", ".jsonl"):
        return load_questions(path, split=split, limit=limit, usual=usual)
    if files := _benchmark_files(name):
        return load_benchmark_files(files, name, split=split, limit=limit, usual=usual)
    return load_dataset_questions(name, split=split, limit=limit, usual=usual, known=_kept())


def brought(source: str) -> tuple[str, str]:
    """The prefix and the rest of a source that a package brings, or that is known to be one's; "" and all of any other:
    none stands in the place of ours."""
    prefix, colon, rest = source.partition(":")
    if not colon or prefix in ("demo", *BENCHMARKS):
        return "", source
    known = entry_points(group=GROUP, name=prefix) or elsewhere.where(prefix, ROLE)
    return (prefix, rest) if known else ("", source)


def own_set(source: str) -> str | None:
    """What tables call a set that is a package's own, ``PREFIX:NAME`` without its split; None: it is none."""
    prefix, name = brought(source)
    if prefix and any(_sets(point) is not None for point in entry_points(group=GROUP, name=prefix)):
        return f"{prefix}:{name.partition(':')[0]}"
    return None


def _sets(point: EntryPoint) -> Sequence[str] | None:
    """Names of a package's own sets; None: it has none of its own."""
    return getattr(_loaded(point), "sets", None)


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise PluginError(
            f"Expected the {ROLE} {point.name}:… in {point.value}, got {type(error).__name__}: {error}; correct the "
            "package that brings it, or remove it."
        ) from error


def _of_package(prefix: str, name: str, split: str | None, usual: Sequence[str]) -> Iterator[Placed]:
    """Questions of a package's source."""
    points = [*entry_points(group=GROUP, name=prefix)]
    if not points:
        raise UnknownNameError(f"Expected a {ROLE}, got {prefix}:{name}; {elsewhere.where(prefix, ROLE)}")
    if len(points) > 1:
        raise PluginError(
            f"Expected one package that brings {prefix}:…, got {' and '.join(sorted(p.value for p in points))}; remove "
            "one of them."
        )
    rows = _loaded(points[0])
    try:
        for number, (where, row) in enumerate(rows(name, split=split, usual=usual)):
            whole = isinstance(row, Question)
            yield where, row if whole else read_question(row, where, f"{name}.{number:05d}", f"{prefix}:{name}")
    except C3POError:
        raise
    except Exception as error:
        raise PluginError(
            f"Expected {prefix}:{name} to be read by {points[0].value}, got {type(error).__name__}: {error}; correct "
            "the package that brings it, or remove it."
        ) from error


def _benchmark_files(name: str) -> list[Path]:
    """JSONL files of a folder; or of a benchmark in the folder that the environment names."""
    folder, data = Path(name), os.environ.get(DATA)
    if data and "/" not in name and (files := sorted(Path(data).glob(f"{escape(name)}.*jsonl"))):
        return files
    if name in BENCHMARKS or not is_folder(folder) or any(is_file(folder / one) for one in SAVED):
        return []
    return sorted(file for file in folder.glob("*.jsonl") if is_file(file))


def _kept() -> set[str]:
    """Names of the benchmarks in that folder and of packages' own sets, for suggestions."""
    data = os.environ.get(DATA)
    kept = {file.name.split(".")[0] for file in Path(data).glob("*.*.jsonl")} if data else set()
    return kept | {f"{point.name}:{name}" for point in entry_points(group=GROUP) for name in _sets(point) or ()}


def _with_split(source: str, split: str | None) -> tuple[str, str | None]:
    """``name:split`` apart; a path with a colon in it is a path."""
    name, colon, own = source.rpartition(":")
    if colon and own.isidentifier() and not (is_file(Path(source)) or is_folder(Path(source))):
        return name, own
    return source, split
