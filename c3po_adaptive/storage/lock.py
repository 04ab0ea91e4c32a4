"""One writer for a folder, or one after the other for a place in the cache."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataError, disk_says
from .files import is_own, is_there, write_text

LOCK, OWNER = ".lock", ".owner"


@contextmanager
def held(folder: Path | str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, for as long as the block lasts.

    The operating system lets go of the lock of a process that died, so the next one takes it over; on file systems
    without such locks filelock writes a lock file in its place.

    Raises:
        DataError: another process holds it, it cannot be written, or what lies in the lock's place is not ours.
    """
    from filelock import FileLock, Timeout

    folder = Path(folder)
    for name, ours in ((LOCK, is_own), (OWNER, is_owner)):
        if is_there(folder / name) and not ours(folder / name):
            raise DataError(f"Expected a folder to write to, got {folder} with a foreign {name}; name another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise DataError(
            f"Expected {folder} for this process alone, but {_owner(folder)} is writing to it; wait until that ends, "
            "or name another --out."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected a folder to write to, got {str(folder)!r}: {disk_says(error)}; name another --out."
        ) from error
    try:
        with suppress(DataError):  # only for the message
            write_text(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        with suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def in_turn(path: Path | str) -> Iterator[None]:
    """Hold a lock file, whose folder is made if it is not there, after every process that held it before.

    Raises:
        DataError: it cannot be written.
    """
    from filelock import FileLock

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise DataError(f"Could not write to {path.parent}: {disk_says(error)}; choose a writable folder.") from error
    try:
        yield
    finally:
        lock.release()


def is_lock(path: Path) -> bool:
    """Whether a file can be one that was locked: there is nothing in it."""
    return is_own(path) and path.stat().st_size == 0


def is_owner(path: Path) -> bool:
    """Whether a file is one that says who holds its folder."""
    return is_own(path) and re.fullmatch(rb"(process \d+ on .*)?", path.read_bytes()) is not None


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text() or "another process"
    except OSError:
        return "another process"
