"""Where things are stored between runs, and where no run belongs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from safetensors import SafetensorError

from ..errors import DataError, disk_says
from .files import is_there, mode_of, scratch_folder

PROJECT = (".git", "pyproject.toml")
"""What lies in the folder of a repository or a project."""


def cache_folder() -> Path:
    """``$C3PO_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("C3PO_CACHE") or platformdirs.user_cache_dir("c3po_adaptive"))


def writable_folder(folder: Path | str, remedy: str = "name another --out") -> Path:
    """A folder that may be written to, there or not; ``remedy``: what to do else, to end messages with.

    Raises:
        DataError: no name, one that no folder can have, or something that is no folder, or cannot be written.
    """
    if not str(folder):
        raise DataError(f"Expected a folder to write to, got an empty name; {remedy}.")
    path = Path(folder)
    try:
        there = next(parent for parent in (path, *path.absolute().parents) if mode_of(parent) is not None)
        if not there.is_dir():
            raise NotADirectoryError(f"{'a link to nothing' if there.is_symlink() else 'the file'} {there} is none")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"{there} is read-only")
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a folder to write to, got {str(folder)!r}: {disk_says(error)}; {remedy}.") from error
    return path


def refuse_home_and_projects(folder: Path) -> None:
    """Refuse folders that belong to something else altogether.

    Raises:
        DataError: it is ``/``, the user's home, or that of a repository or a project.
    """
    place, what = os.path.realpath(folder), ""
    if lying := [name for name in PROJECT if is_there(folder / name)]:
        what = f"a project ({lying[0]})"
    if place in ("/", os.path.realpath(os.path.expanduser("~"))):
        what = "the root of the disk" if place == "/" else "your home"
    if what:
        raise DataError(f"Expected a folder for a run alone, got {folder}, which is {what}; name another --out.")


def out_folder(path: Path | str) -> Path:
    """A folder to write results to, there or not; what lies in it is looked at by ``check_ours``.

    Raises:
        DataError: it cannot be written, or is a project's or your home.
    """
    folder = writable_folder(path)
    refuse_home_and_projects(folder)
    return folder


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
            usual = writing.stat().st_mode & 0o666
            for file in writing.rglob("*"):  # safetensors lets nobody else read its own
                with suppress(PermissionError):  # a disk without modes
                    file.chmod(file.stat().st_mode | usual) if not file.is_symlink() else None
            check_new(path, what)  # by another process, meanwhile
            os.rename(writing, path)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        raise DataError(
            f"Expected to write a new {what}, got: {disk_says(error)}; nothing is left of it at {path}: free the disk, "
            "or name another."
        ) from error


def check_new(path: Path, what: str) -> None:
    """Refuse a path where something is already, or can never be.

    Raises:
        DataError: with what was wanted.
    """
    if path.name in ("", "..") or is_there(path):
        raise DataError(f"Expected a new {what}, {path} exists; name another.")
    writable_folder(path, "choose a writable folder")
