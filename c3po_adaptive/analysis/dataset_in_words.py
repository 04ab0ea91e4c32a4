"""What a data set was asked with: references of other data sets, as in C3PO, or of its own, which is another task; and
how its questions were put."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ..tasks.bed import BED
from ..tasks.formats import HARNESS

SAME = "same set"


def references_of(config: Mapping[str, Any], dataset: str) -> str:
    """Names of the sources that a data set's references come from, such as ``openbookqa + sciq``.

    One that is the questions' own says so: ``arc_easy (same set)``. Of "all", the mean over data sets, it is said which
    of the two there are: ``same set``, ``other sets``, or both.

    Args:
        config: of a comparison, as plain values.
        dataset: its name there.
    """
    named = {one["name"]: _named(one) for one in config.get("datasets", ())}
    if dataset in named:
        return " + ".join(named[dataset]) or "none"
    kinds = {SAME if SAME in source else "other sets" for sources in named.values() for source in sources}
    return " and ".join(sorted(kinds)) or "none"


def benchmark_of(config: Mapping[str, Any], dataset: str) -> str:
    """The name of the source that a data set's questions come from; "" of "all".

    Args:
        config: see above.
        dataset: likewise.
    """
    return next((_set(one["questions"]) for one in config.get("datasets", ()) if one["name"] == dataset), "")


def format_of(config: Mapping[str, Any], dataset: str) -> str:
    """How a data set's questions were put, in words; of "all", how those of each were, or ``several``.

    Args:
        config: see above.
        dataset: likewise.
    """
    usual = config.get("format", "cloze")
    named = {one["name"]: _in_words(one.get("format") or usual) for one in config.get("datasets", ())}
    if dataset in named:
        return named[dataset]
    each = {*named.values()} or {_in_words(usual)}
    return each.pop() if len(each) == 1 else "several"


def _in_words(format: str | Mapping[str, Any]) -> str:
    given = {"name": format} if isinstance(format, str) else format
    scored = given.get("normalize", "tokens")
    name = "letters" if given["name"] == "letter" else f"cloze by {'sum' if scored == 'none' else scored}"
    name += ", in a chat" if given.get("chat") else ""
    token = given.get("token", "last")
    return name if token == "last" else f"{name}, ω at the {token} token"


def _named(dataset: Mapping[str, Any]) -> Sequence[str]:
    own = _set(dataset["questions"])
    names = dict.fromkeys(map(_set, dataset.get("references", ())))
    return [f"{name} ({SAME})" if name == own else name for name in names]


def _set(source: str) -> str:
    """A source's name without its split, and of a file or a folder without where it is; of a harness task its own,
    of the bed ``bed:NAME``."""
    if source.startswith(BED):
        return BED + source.removeprefix(BED).partition(":")[0]
    source = source.removeprefix(HARNESS)
    name, colon, split = source.rpartition(":")
    path = PurePath(name if colon and split.isidentifier() else source)
    return path.name.partition(".")[0] if path.suffix in (".json", ".jsonl") else path.name or source
