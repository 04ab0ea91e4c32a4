"""Files that are named by what they are of and by a hash: altered, cut short or renamed, they are found out when read.

``<of>.<checksum>.<kind>``, where the checksum is of both the name and what the file holds. What is stored under such a
name takes long to compute, and can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, disk_says
from ..progress import RESUMES
from .files import is_folder, scratch_file, take_place
from .tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16
CHECKSUM = "[0-9a-f]" * LENGTH
TENSORS = ".safetensors"
FIRST = "[0-9]" * 7


def checksummed_name(path: Path, of: str, kind: str) -> str:
    """The name that a file has to have, from what it holds.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return f"{of}.{file_digest(file, lambda: sha256(of.encode())).hexdigest()[:LENGTH]}{kind}"


def write_checksummed(folder: Path, of: str, kind: str, write: Callable[[Path], object]) -> Path:
    """Where the file lies that ``write`` makes, whole or not at all.

    Raises:
        OSError: the disk refuses it.
    """
    with scratch_file(folder) as writing:
        write(writing)
        path = folder / checksummed_name(writing, of, kind)
        take_place(writing, path)
        return path


def checksummed_files(folder: Path, of: str = "*", kind: str = ".*") -> list[Path]:
    """The files of such names; ``of`` and ``kind`` may hold wildcards."""
    return sorted(folder.glob(f"{of}.{CHECKSUM}{kind}")) if is_folder(folder) else []


def verify_checksum(path: Path, remedy: str) -> None:
    """Refuse a file that does not hold what its name says.

    Args:
        path: the file.
        remedy: what to do, to end the message with.

    Raises:
        DataError: it is missing, cut short, altered, or has another's name.
    """
    of, _, _ = path.stem.rpartition(".")
    try:
        whole, why = checksummed_name(path, of, path.suffix) == path.name, ""
    except (OSError, ValueError) as error:
        whole, why = False, f" ({getattr(error, 'strerror', None) or error})"
    if not whole:
        raise DataError(f"{path} is missing, cut short or altered{why}; {remedy}.")


def save_checksummed(tensors: Mapping[str, Tensor], folder: Path, of: str) -> Path:
    """Write tensors; errors as for ``write_checksummed``."""
    return write_checksummed(folder, of, TENSORS, lambda path: save_tensors(tensors, path))


def load_checksummed(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors back; errors as for ``verify_checksum``."""
    verify_checksum(path, remedy)
    return load_tensors(path, remedy)


def shards_of(folder: Path, of: str) -> dict[int, Path]:
    """Files of tensors of many rows, some rows each, by the number of their first row."""
    return {int(path.name.partition(".")[0][-7:]): path for path in checksummed_files(folder, f"{of}-{FIRST}", TENSORS)}


def save_shard(tensors: Mapping[str, Tensor], folder: Path, of: str, first: int) -> Path:
    """Write one of them.

    Raises:
        DataError: the disk refuses it.
    """
    try:
        path = save_checksummed(tensors, folder, f"{of}-{first:07d}")
        RESUMES.set(True)
        return path
    except OSError as error:
        raise DataError(
            f"Could not write {folder}: {disk_says(error)}; free the disk, and build again to resume."
        ) from error
