"""Named tensors in one file (safetensors)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, disk_says
from .files import atomic_file, check_there, let

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, with texts beside them, whole or not at all.

    Raises:
        OSError: the disk refuses it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_file(path) as writing:
        writing.touch()
        mode = writing.stat().st_mode  # as files get it here; safetensors lets nobody else read its own
        try:
            save_file(dict(tensors), writing, None if metadata is None else dict(metadata))
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error
        let(writing, mode)


def load_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors back.

    Args:
        path: the file.
        remedy: what to do where it cannot be read, to end the message with.

    Raises:
        DataError: the file is cut short or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_there(path, "a file of tensors", remedy)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is cut short or altered: {disk_says(error)}; {remedy}.") from error


def metadata_of(path: Path, remedy: str) -> dict[str, str]:
    """The texts beside the tensors of a file.

    Raises:
        DataError: the file is cut short or altered.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is cut short or altered: {disk_says(error)}; {remedy}.") from error
