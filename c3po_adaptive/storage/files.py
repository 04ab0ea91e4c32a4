"""Files that are either the old ones or the whole new ones, never half of them; what is not ours is never touched."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import C3POError, DataError, disk_says

SUFFIX = ".writing"
"""Of what is being written; what an interruption leaves is of no use, and may be deleted."""
is_file, is_folder, is_there = os.path.isfile, os.path.isdir, os.path.lexists
"""A name that no file can have is that of none; ``is_there``: links to nothing, too."""
STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
"""What a shell hands over under a file's name."""


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """A path to write a file at, which takes the place of the file ``path`` when the block ends, and has its mode.

    A block that raises leaves ``path`` as it was. Its folder is made if it is not there. A folder, a link or a device
    that stands there stays, as does a file that is read-only, and is an error.

    Raises:
        OSError: as it comes from the disk; what to do about it, the caller knows.
    """
    path = Path(path)
    _replaceable(path)
    with scratch_file(path.parent) as writing:
        yield writing
        take_place(writing, path)


@contextmanager
def atomic_folder(path: Path, names: Sequence[str], ours: Callable[[str], bool]) -> Iterator[Path]:
    """A folder to write files of these names in, which stand in the folder ``path`` when the block ends.

    A new folder appears whole. In one that is there each file takes the place of the old one of its name in one step,
    in the order of ``names``: first the one that says whose they all are. Whatever else lies there stays.

    Args:
        path: of the folder, or a link to one.
        names: of the files.
        ours: whether the file of a name that lies there is ours to replace.

    Raises:
        DataError: a file that lies there is not ours; nothing was touched.
        OSError: as it comes from the disk; what to do about it, the caller knows.
    """
    check_ours(path, names, ours)
    with scratch_folder(path if path.is_dir() else path.parent) as writing:
        yield writing
        if not path.is_dir():
            os.rename(writing, path)
            return
        check_ours(path, names, ours)
        written = [name for name in names if is_there(writing / name)]
        for name in written:
            _replaceable(path / name)
        for name in written:
            take_place(writing / name, path / name)


@contextmanager
def scratch_file(folder: Path) -> Iterator[Path]:
    """A path in a folder, which is made if it is not there, to write a file at; what lies there in the end is deleted.

    Raises:
        OSError: as it comes from the disk.
    """
    writing = _unused(folder)
    try:
        yield writing
    finally:
        writing.unlink(missing_ok=True)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """The same of a folder to write in, which is there.

    Raises:
        OSError: as it comes from the disk.
    """
    writing = _unused(folder)
    writing.mkdir()
    try:
        yield writing
    finally:
        shutil.rmtree(writing, ignore_errors=True)  # made here, under a name that nobody else has


def take_place(writing: Path, path: Path) -> None:
    """Put a file where another is, or none, in one step, with the mode of what it replaces.

    Raises:
        OSError: something else stands there, or is read-only; or as it comes from the disk.
    """
    mode = _replaceable(path)
    if mode is not None:
        writing.chmod(mode)
    os.replace(writing, path)


def _unused(folder: Path) -> Path:
    """A path for what is being written there; short, as the name that it stands in for may be as long as names get."""
    mode_of(folder)  # a name that none can have is an OSError
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{secrets.token_hex(8)}{SUFFIX}"


def _replaceable(path: Path) -> int | None:
    """The permissions of the file that stands there; None: nothing does.

    Raises:
        OSError: it is no file (what a link leads to is not ours), or read-only, or nothing can have that name.
    """
    mode = mode_of(path)
    if mode is None:
        return None
    if not stat.S_ISREG(mode):
        what = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no file"
        raise FileExistsError(errno.EEXIST, f"{what} stands there")
    if not mode & 0o222 or not os.access(path, os.W_OK):  # whoever is root may write anything
        raise PermissionError(errno.EACCES, "the file that stands there is read-only")
    return stat.S_IMODE(mode)


def mode_of(path: Path) -> int | None:
    """What stands there, links not followed; None: nothing.

    Raises:
        OSError: nothing can have that name, or it may not be looked at.
    """
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # a NUL, or half a character
        raise OSError(errno.EINVAL, f"no file can have that name ({error})") from None


def check_ours(folder: Path, names: Sequence[str], ours: Callable[[str], bool]) -> None:
    """Refuse a folder where files of others lie under our names.

    Args:
        folder: there or not.
        names: of the files to be written.
        ours: whether the file of a name that lies there is ours to replace.

    Raises:
        DataError: with what lies there.
    """
    foreign = [name for name in names if is_there(folder / name) and not (is_own(folder / name) and ours(name))]
    if foreign:
        raise DataError(
            f"Expected a folder without {', '.join(foreign)} of others, got {folder}; nothing was touched: name "
            "another, or move them away."
        )


def check_own(path: Path | str, ours: Callable[[Path], bool], what: str) -> None:
    """Refuse to write where another's file lies.

    Args:
        path: of the file to be written.
        ours: whether a file that lies there is ours to replace.
        what: is to be written, to begin the message with.

    Raises:
        DataError: a file that is not, a link, or anything else lies there.
    """
    if is_there(path) and not (is_own(path) and ours(Path(path))):
        raise DataError(
            f"Expected a place for {what}, got {path}, where something else lies; nothing was touched: name another, "
            "or move it away."
        )


def check_there(path: Path | str, expected: str, remedy: str, refusal: type[C3POError] = DataError) -> None:
    """Refuse to read what is not there, or waits. What may not be looked at says so itself when it is read.

    Args:
        path: of the file.
        expected: what it has to be.
        remedy: what to do, to end the message with.
        refusal: the kind of error.

    Raises:
        C3POError: of that kind; there is nothing, or no file.
    """
    try:
        there = mode_of(Path(path)) is not None
    except OSError:
        return
    if not there:
        raise refusal(f"Expected {expected}, but {path} does not exist; {remedy}.")
    if waits(path):
        raise refusal(f"Expected {expected}, but {path} is a pipe or a device, and no file; {remedy}.")


def waits(path: Path | str) -> bool:
    """Whether a reader might wait there without end: at a pipe or a device, but for what a shell hands over."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or os.fspath(path).startswith(STREAMS))


def is_own(path: Path | str) -> bool:
    """Whether it is a file by itself: what a link leads to is another's."""
    return is_file(path) and not os.path.islink(path)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        DataError: the disk refuses it, or something that is no file stands there, or one that is read-only.
    """
    try:
        with atomic_file(path) as writing:
            writing.write_text(text, encoding="utf-8")
    except (OSError, UnicodeEncodeError) as error:
        then = "make it writable" if isinstance(error, PermissionError) else "name a folder you may write to"
        raise DataError(f"Expected to write {path}, got: {disk_says(error)}; {then}.") from error
