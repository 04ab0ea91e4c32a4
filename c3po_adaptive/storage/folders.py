"""Where things are kept between runs, and where no run belongs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from ..errors import DataError
from .files import is_there, mode_of

PROJECT = (".git", "pyproject.toml")
"""What lies in the folder of a repository or a project."""


def cache_folder() -> Path:
    """``$C3PO_CACHE``, else the user's cache folder."""
    return Path(os.environ.get("C3PO_CACHE") or platformdirs.user_cache_dir("c3po_adaptive"))


def writable_folder(folder: Path | str) -> Path:
    """A folder that may be written to, there or not.

    Raises:
        DataError: no name, one that no folder can have, or something that is no folder, or cannot be written.
    """
    if not str(folder):
        raise DataError("Expected a folder to write to, got an empty name; name another --out.")
    path = Path(folder)
    try:
        there = next(parent for parent in (path, *path.absolute().parents) if mode_of(parent) is not None)
        if not there.is_dir():
            raise NotADirectoryError(f"{'a link to nothing' if there.is_symlink() else 'the file'} {there} is none")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"{there} is read-only")
    except (OSError, ValueError) as error:
        raise DataError(f"Expected a folder to write to, got {str(folder)!r}: {error}; name another --out.") from error
    return path


def refuse_home_and_projects(folder: Path) -> None:
    """Refuse folders that belong to something else altogether.

    Raises:
        DataError: it is ``/``, the user's home, or that of a repository or a project.
    """
    lying = [name for name in PROJECT if is_there(folder / name)]
    places = {"/": "the root of the disk", "~": "your home"}
    what = {os.path.realpath(os.path.expanduser(path)): told for path, told in places.items()}.get(
        os.path.realpath(folder), f"a project ({lying[0]})" if lying else None
    )
    if what is not None:
        raise DataError(f"Expected a folder for a run alone, got {folder}, which is {what}; name another --out.")
