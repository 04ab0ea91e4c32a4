"""One writer for a folder, or one after the other for a place in the cache."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import DataError, disk_says
from .files import write_text

LOCK, OWNER = ".c3po.lock", ".c3po.owner"
"""Names that nobody else has for a file: what lies there is ours."""


@contextmanager
def held(folder: Path | str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, for as long as the block lasts.

    The operating system lets go of the lock of a process that died, so the next one takes it over; on file systems
    without such locks filelock writes a lock file in its place.

    Raises:
        DataError: another process holds it, or it cannot be written.
    """
    from filelock import Timeout

    owner = Path(folder) / OWNER
    with ExitStack() as stack:
        try:
            stack.enter_context(in_turn(Path(folder) / LOCK, timeout=0))
        except Timeout:
            said = owner.read_text() if owner.exists() else "another process"
            raise DataError(
                f"Expected {folder} for this process alone, but {said} is writing to it; wait until that ends, or name "
                "another folder."
            ) from None
        with suppress(DataError):  # only for the message
            write_text(owner, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            with suppress(OSError):
                owner.unlink(missing_ok=True)


@contextmanager
def in_turn(path: Path | str, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file, whose folder is made if it is not there, after every process that held it before.

    Args:
        path: of the file.
        timeout: seconds to wait for them; -1: as long as they take.

    Raises:
        DataError: it cannot be written.
        filelock.Timeout: another process still holds it.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=timeout)
        lock.acquire()
    except Timeout:
        raise
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected a folder to write to, got {str(path.parent)!r}: {disk_says(error)}; name another."
        ) from error
    try:
        yield
    finally:
        lock.release()
