"""Files of a run that make room for another's: deleted when that has claimed the folder, back where none has.

Each step is one that an interruption cannot cut in two, so that ``settle`` tells at any time whose the folder is.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from .files import SUFFIX, is_own, is_there

MARK, TOLD = "set_aside", "The run that was here: c3po --overwrite deletes it, or brings it back, when it goes on.\n"
_NAME = re.compile(r"\.replaced-[0-9a-f]{16}")


@contextmanager
def set_aside(folder: Path, files: Sequence[str], claim: str) -> Iterator[None]:
    """Make room in a folder that this process holds while the block lasts.

    Args:
        folder: of the run.
        files: names of what it may have written.
        claim: name of the file that says whose the folder is; the block writes another.

    Raises:
        DataError: a file cannot be moved.
    """
    aside = folder / f".replaced-{secrets.token_hex(8)}"
    try:
        _make(aside)
        _move(folder, aside, (*files, claim))
        yield
    finally:
        settle(folder, files, claim)


def is_unsettled(folder: Path) -> bool:
    """Whether a process that set a run aside was interrupted."""
    return any(_asides(folder))


def settle(folder: Path, files: Sequence[str], claim: str) -> None:
    """End what ``set_aside`` began, in a folder that this process holds: its arguments.

    Raises:
        DataError: a file cannot be moved or deleted, or another has taken the place of one that would come back.
    """
    for aside in _asides(folder):
        if is_there(aside / claim) and is_there(folder / claim):  # another has claimed the folder
            _delete(aside, (*files, claim))
        else:
            _move(aside, folder, (*files, claim))
        _delete(aside, (MARK,))
        if not any(aside.iterdir()):
            aside.rmdir()


def _asides(folder: Path) -> list[Path]:
    """Folders that ``set_aside`` made; any other of such a name is the user's."""
    found = (path for path in folder.glob(".replaced-*") if _NAME.fullmatch(path.name) and is_own(path / MARK))
    return [path for path in found if not path.is_symlink() and (path / MARK).read_bytes() == TOLD.encode()]


def _make(aside: Path) -> None:
    """The folder with its mark, in one step."""
    making = aside.with_name(f"{aside.name}{SUFFIX}")
    try:
        making.mkdir()
        (making / MARK).write_text(TOLD, encoding="utf-8")
        os.rename(making, aside)
    except OSError as error:
        raise DataError(f"Expected to make {aside}, got: {error}; name another --out.") from error


def _move(source: Path, to: Path, names: Sequence[str]) -> None:
    for name in names:
        if not is_there(source / name):
            continue
        if is_there(to / name):
            raise DataError(
                f"Expected to move {source / name} to {to}, where another of its name lies; move one of them away."
            )
        try:
            os.rename(source / name, to / name)
        except OSError as error:
            raise DataError(f"Expected to move {source / name} to {to}, got: {error}; name another --out.") from error


def _delete(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"Expected to delete {folder / name}, got: {error}; delete {folder} yourself.") from error
