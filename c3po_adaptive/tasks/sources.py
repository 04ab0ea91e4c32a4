"""Questions from wherever they are: the one door for the command line, configurations and Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import escape
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from .. import elsewhere
from ..errors import C3POError, DataError, PluginError, UnknownNameError, suggestion
from ..storage.files import is_file, is_folder
from ..types import Question
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
the attribute ``sets``, names of some: tables call them ``mine:NAME``, and who misspells one is shown them. One that
is had without its prefix, too, has ``takes(name) -> bool``, which says of which names, and ``names``, those it is known
by, for who misspells one. They are looked up without the registry: questions are read before there is one.
"""
ROLE = "source of questions"


def questions(
    source: str | Path, *, split: str | None = None, limit: int | None = None, usual: Sequence[str] = ()
) -> list[Question]:
    """Questions of a source.

    Args:
        source: ``"demo"``; a JSON or JSONL file; the name of a benchmark that lies as files in the folder that
            ``$C3PO_DATA`` names; a folder of benchmarks as files (``NAME.SPLIT.jsonl``, ``SPLIT.jsonl``); or what an
            installed package brings (see ``GROUP``): ``PREFIX:NAME``, such as ``bed:KIND`` or ``lm_eval:TASK``, and
            names that it takes without a prefix, as ``plugins/benchmarks`` does benchmarks' (``"mmlu"``), hub ids and
            folders of the ``datasets`` library. ``name:split`` names a split of its own.
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
        points = [*entry_points(group=GROUP, name=prefix)]
        return _of_packages(points, name, f"{prefix}:{name}", split, limit, usual)
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
    files = _benchmark_files(name)
    if not files and (points := [point for point in entry_points(group=GROUP) if _takes(point, name)]):
        return _of_packages(points, name, name, split, limit, usual)
    if not files and is_folder(path):
        files = sorted(file for file in path.glob("*.jsonl") if is_file(file))
    if not files:
        raise _unknown(name)
    return load_benchmark_files(files, name, split=split, limit=limit, usual=usual)


def brought(source: str) -> tuple[str, str]:
    """The prefix and the rest of a source that a package brings, or that is known to be one's; "" and all of any other:
    none stands in the place of ours."""
    prefix, colon, rest = source.partition(":")
    if not colon or prefix == "demo" or _benchmark_files(prefix):
        return "", source
    known = entry_points(group=GROUP, name=prefix) or elsewhere.where(prefix, ROLE)
    return (prefix, rest) if known else ("", source)


def prefixes() -> list[str]:
    """Of the sources that installed packages bring."""
    return sorted(f"{point.name}:" for point in entry_points(group=GROUP))


def own_set(source: str) -> str | None:
    """What tables call a set that is a package's own, ``PREFIX:NAME`` without its split; None: it is none."""
    prefix, name = brought(source)
    if prefix and any(hasattr(_loaded(point), "sets") for point in entry_points(group=GROUP, name=prefix)):
        return f"{prefix}:{name.partition(':')[0]}"
    return None


def _takes(point: EntryPoint, name: str) -> bool:
    takes = getattr(_loaded(point), "takes", None)
    return takes is not None and takes(name)


def _loaded(point: EntryPoint) -> Any:
    return elsewhere.loaded(point, f"the {ROLE} {point.name}:…")


def _of_packages(
    points: Sequence[EntryPoint], name: str, called: str, split: str | None, limit: int | None, usual: Sequence[str]
) -> list[Question]:
    """Questions of the one source of packages that there has to be."""
    if not points:
        raise UnknownNameError(f"Expected a {ROLE}, got {called}; {elsewhere.where(called.split(':')[0], ROLE)}")
    if len(points) > 1:
        raise PluginError(
            f"Expected one package that brings {called}, got {' and '.join(sorted(p.value for p in points))}; remove "
            "one of them."
        )
    return first(unique([*_placed(points[0], name, called, split, usual)], called), limit)


def _placed(point: EntryPoint, name: str, called: str, split: str | None, usual: Sequence[str]) -> Iterator[Placed]:
    """Its questions, each behind its place."""
    rows = _loaded(point)
    try:
        for number, (where, row) in enumerate(rows(name, split=split, usual=usual)):
            whole = isinstance(row, Question)
            yield where, row if whole else read_question(row, where, f"{name}.{number:05d}", called)
    except C3POError:
        raise
    except Exception as error:
        raise PluginError(
            f"Expected {called} to be read by {point.value}, got {type(error).__name__}: {error}; correct "
            "the package that brings it, or remove it."
        ) from error


def _benchmark_files(name: str) -> list[Path]:
    """JSONL files of a benchmark in the folder that the environment names."""
    data = os.environ.get(DATA)
    return sorted(Path(data).glob(f"{escape(name)}.*jsonl")) if data and "/" not in name else []


def _unknown(name: str) -> UnknownNameError:
    """What is no source, with those that may have been meant."""
    path, data, points = Path(name), os.environ.get(DATA), entry_points(group=GROUP)
    taken = [known for point in points for known in getattr(_loaded(point), "names", ())]
    if path.name != name and is_folder(path.parent):
        known = {str(path.parent / entry.name) for entry in path.parent.iterdir()}
    else:
        files = {file.name.split(".")[0] for file in Path(data).glob("*.*.jsonl")} if data else set()
        sets = (f"{point.name}:{s}" for point in points for s in getattr(_loaded(point), "sets", ()))
        known = {"demo", *taken, *files, *sets}
    hint = suggestion(name, sorted(known), "name a file, a folder or one of these.")
    absent = "" if taken else f" As for the Hub's: {elsewhere.where('benchmarks', ROLE)}"
    return UnknownNameError(
        f"Expected a benchmark, an existing file or folder or a hub id owner/name; got {name!r}; {hint}{absent}"
    )


def _with_split(source: str, split: str | None) -> tuple[str, str | None]:
    """``name:split`` apart; a path with a colon in it is a path."""
    name, colon, own = source.rpartition(":")
    if colon and own.isidentifier() and not (is_file(Path(source)) or is_folder(Path(source))):
        return name, own
    return source, split
