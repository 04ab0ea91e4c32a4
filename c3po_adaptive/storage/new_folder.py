"""New folders: they appear whole, or not at all, and never in the place of anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..errors import DataError
from .files import mode_of, scratch_folder
from .folders import writable_folder


@contextmanager
def new_folder(path: Path | str, what: str) -> Iterator[Path]:
    """A folder to write in, which stands at ``path`` when the block ends; a block that raises leaves nothing.

    Args:
        path: where nothing is yet.
        what: is to be there, to name it in messages: "folder for …".

    Raises:
        DataError: something is there, or came meanwhile, or the disk refuses it.
    """
    path = Path(path)
    check_new(path, what)
    try:
        with scratch_folder(path.parent) as writing:
            yield writing
            check_new(path, what)  # by another process, meanwhile
            os.rename(writing, path)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        raise DataError(
            f"Expected to write a new {what}, got: {error}; nothing is left of it at {path}: free the disk, or name "
            "another."
        ) from error


def check_new(path: Path, what: str) -> None:
    """Refuse a path where something is already, or can never be.

    Raises:
        DataError: with what was wanted.
    """
    try:
        there = path.name in ("", "..") or mode_of(path) is not None
        writable_folder(path.parent)
    except (OSError, DataError) as error:
        raise DataError(
            f"Could not write {str(path)!r}: {error.__cause__ or error}; choose a writable folder."
        ) from error
    if there:
        raise DataError(f"Expected a new {what}, {path} exists; name another.")
