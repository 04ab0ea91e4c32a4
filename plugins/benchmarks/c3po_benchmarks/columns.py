"""A column of a data set of the Hub, or of a folder that the ``datasets`` library reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from os.path import isdir  # of a name that none can have it says no
from pathlib import Path

from c3po_adaptive import DataError

from .library import from_folder, streamed
from .published import Row

USUAL = "text"
"""The column that is meant where none is named."""


def column(place: str) -> Iterator[str]:
    """The texts of a column that are not empty.

    Args:
        place: a hub id ``owner/name``, with ``/configuration`` where there are several, or a folder; behind a colon
            the column, where it is not ``text``, and behind another the split, which a folder of one needs not.

    Raises:
        DataError: the data set cannot be reached, or has not this split or column of texts.
        ArtifactError: the library ``datasets`` is not installed.
    """
    source, *named = place.split(":") if place.count(":") <= 2 else [place]
    split, called = named[-1] if named else None, named[0] if len(named) == 2 else USUAL
    for number, row in enumerate(_rows(source, split)):
        text = row.get(called)
        if not isinstance(text, str):
            got = f"the columns {', '.join(row)}" if called not in row else type(text).__name__
            raise DataError(
                f"{source}, row {number}: expected a text in the column {called!r}, got {got}; name a column of "
                f"texts, texts:{source}:COLUMN:{split or 'SPLIT'}."
            )
        if text.strip():
            yield text


def _rows(source: str, split: str | None) -> Iterable[Row]:
    if isdir(source):
        tables = from_folder(Path(source))
        if split is None and len(tables) == 1:
            return next(iter(tables.values()))
        if split is None or split not in tables:
            there = ", ".join(filter(None, tables)) or "none"
            raise DataError(
                f"{source}: expected a split among {there}, got {split}; name one of these, or leave it out."
            )
        return tables[split]
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+){1,2}", source) or split is None:
        got = "no split" if split is None else f"the split {split}"
        raise DataError(
            "Expected a column of a data set as texts:OWNER/NAME:SPLIT or texts:OWNER/NAME:COLUMN:SPLIT, or a folder "
            f"in the place of OWNER/NAME, got {source!r} with {got}."
        )
    owner, called, *configuration = source.split("/")
    return streamed(f"{owner}/{called}", configuration[0] if configuration else None, split)
