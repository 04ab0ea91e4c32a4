"""Files that are named by what they are of and by a hash: altered, cut short or renamed, they are found out when read.

``<of>.<checksum>.<kind>``, where the checksum is of both the name and what the file holds. What is kept under such a
name takes long to compute, and can be computed again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .files import is_folder, scratch_file, take_place
from .tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16
CHECKSUM = "[0-9a-f]" * LENGTH
TENSORS = ".safetensors"


def checksummed_name(path: Path, of: str, kind: str) -> str:
    """The name that a file has to have, from what it holds.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return f"{of}.{file_digest(file, lambda: sha256(of.encode())).hexdigest()[:LENGTH]}{kind}"


def plain_name(name: str) -> str:
    """The name without its checksum, if it has one."""
    return re.sub(rf"\.{CHECKSUM}(?=\.[a-z]+$)", "", name)


def checksummed_pattern(name: str) -> str:
    """A wildcard for the names that a file of this plain name may have with a checksum."""
    return f"{Path(name).stem}.{CHECKSUM}{Path(name).suffix}"


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
    """Read tensors back, into memory: what becomes of the file later is not seen; errors as for ``verify_checksum``."""
    verify_checksum(path, remedy)
    return {name: tensor.clone() for name, tensor in load_tensors(path, remedy).items()}
