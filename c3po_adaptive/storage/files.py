"""Files and folders that are either the old ones or the whole new ones, never half of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError

SUFFIX = ".writing"
"""Of what is being written; what an interruption leaves is of no use, and may be deleted."""


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """A path to write a file or folder at, which takes the place of ``path`` when the block ends.

    A block that raises leaves ``path`` as it was. Its folder is made if it is not there.

    Raises:
        OSError: as it comes from the disk; what to do about it, the caller knows.
    """
    path = Path(path)
    writing = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield writing
        if writing.is_dir() and path.is_dir():  # a folder takes the place of one; a file does not
            shutil.rmtree(path)
        os.replace(writing, path)
    finally:
        if writing.is_dir():
            shutil.rmtree(writing, ignore_errors=True)
        elif writing.exists():
            writing.unlink()


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is that of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def write_text(path: Path | str, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        DataError: the disk refuses it.
    """
    try:
        with whole(path) as writing:
            writing.write_text(text, encoding="utf-8")
    except (OSError, UnicodeEncodeError) as error:
        raise DataError(f"Expected to write {path}, got: {error}; name a folder you may write to.") from error
