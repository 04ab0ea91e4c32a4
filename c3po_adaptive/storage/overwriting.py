"""Files of a run that make room for another's: deleted when that has claimed the folder, back where none has.

Each step is one that an interruption cannot cut in two, so that ``settle`` tells at any time whose the folder is.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, disk_says
from .files import SUFFIX, is_own, is_there

MARK, TOLD = "set_aside", "The run that was here: c3po --overwrite deletes it, or brings it back, when it goes on.\n"
_NAME = re.compile(r"\.replaced-[0-9a-f]{16}")


class Claim(NamedTuple):
    """What the file says that claims a folder: names of the files beside it, and the folder whose place it takes."""

    files: tuple[str, ...]
    replaces: str | None


Read = Callable[[Path], Claim | None]
"""Reads a claim; None where there is none, or another's."""


@contextmanager
def make_room(folder: Path, claim: str, read: Read) -> Iterator[str]:
    """Make room in a folder that this process holds while the block lasts.

    Args:
        folder: of the run.
        claim: name of the file that says whose the folder is; the block writes another.
        read: reads it.

    Yields:
        What the new claim has to say that it replaces.

    Raises:
        DataError: a file cannot be moved.
    """
    aside, old = folder / f".replaced-{secrets.token_hex(8)}", read(folder / claim)
    try:
        _make(aside)
        _move(folder, aside, (*(old.files if old is not None else ()), claim))
        yield aside.name
    finally:
        settle(folder, claim, read)


def is_unsettled(folder: Path) -> bool:
    """Whether a process that set a run aside was interrupted."""
    return any(_asides(folder))


def settle(folder: Path, claim: str, read: Read) -> None:
    """End what ``set_aside`` began, in a folder that this process holds: its arguments.

    Raises:
        DataError: a file cannot be moved or deleted, or another has taken the place of one that would come back.
    """
    for aside in _asides(folder):
        old, new = read(aside / claim), read(folder / claim)
        if new is not None and new.replaces == aside.name:  # another has claimed the folder
            _delete(aside, (*(old.files if old is not None else ()), claim))
        elif (run := _alone(folder, aside, claim, old, new)) is not None:
            _move(aside, folder, (*run.files, claim))
        elif os.listdir(aside) != [MARK]:
            raise DataError(
                f"Expected {folder / claim} to be of the run that --overwrite has set aside in {aside}, or of the one "
                f"that takes its place, got neither; nothing was touched: move {folder / claim} away, and that run "
                f"comes back; or move {aside} away, and what is there now stays."
            )
        _delete(aside, (MARK,))
        if not any(aside.iterdir()):
            aside.rmdir()


def _alone(folder: Path, aside: Path, claim: str, old: Claim | None, new: Claim | None) -> Claim | None:
    """The claim of a run that was being moved out or back: there or aside, and not in both places."""
    return None if is_there(aside / claim) and is_there(folder / claim) else old or new


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
        raise DataError(f"Expected to make {aside}, got: {disk_says(error)}; name another --out.") from error


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
            raise DataError(
                f"Expected to move {source / name} to {to}, got: {disk_says(error)}; name another --out."
            ) from error


def _delete(folder: Path, names: Sequence[str]) -> None:
    others = [name for name in names if is_there(folder / name) and not is_own(folder / name)]
    if others:
        raise DataError(
            f"Expected files of a run alone in {folder}, got {', '.join(others)}, links or folders; move them away."
        )
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"Expected to delete {folder / name}, of the run that --overwrite replaced, got: "
                f"{disk_says(error)}; see to it "
                "that it can be deleted, and start again."
            ) from error
