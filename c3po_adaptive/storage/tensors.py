"""Named tensors in one file (safetensors)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, disk_says
from .files import atomic_file, check_there

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, with texts beside them, whole or not at all.

    Raises:
        OSError: the disk refuses it.
    """
    from safetensors.torch import save

    with atomic_file(path) as writing:  # save_file lets nobody else read its files
        writing.write_bytes(save(dict(tensors), None if metadata is None else dict(metadata)))


def load_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors back, into memory: what becomes of the file later is not seen.

    Args:
        path: the file.
        remedy: what to do where it cannot be read, to end the message with.

    Raises:
        DataError: the file is cut short or altered.
    """
    with _opened(path, remedy) as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)


def metadata_of(path: Path, remedy: str) -> dict[str, str]:
    """The texts beside the tensors of a file; errors as for ``load_tensors``."""
    with _opened(path, remedy) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    check_there(path, "a file of tensors", remedy)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is cut short or altered: {disk_says(error)}; {remedy}.") from error
