"""Tensors by key, in memory and in a folder: what takes long to compute of each reference is computed once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .tensors import load_tensors, save_tensors

SHARD = 128


class TensorStore:
    """One tensor a key. Files are shards named by their keys: two processes that compute the same write the same."""

    def __init__(self, folder: Path | None) -> None:
        """Read what is in the folder, if there is one.

        Raises:
            DataError: a shard is cut short.
        """
        self.folder = folder
        self._known: dict[bytes, Tensor] = {}
        self._unwritten: list[bytes] = []
        for path in sorted(folder.glob("*.safetensors")) if folder is not None and folder.is_dir() else ():
            tensors = load_tensors(path, "delete it, and it is made again")
            self._known.update(zip(map(bytes, tensors["keys"].tolist()), tensors["values"], strict=True))

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def __getitem__(self, key: bytes) -> Tensor:
        return self._known[key]

    def add(self, keys: Sequence[bytes], values: Tensor) -> None:
        """``values [N, …]``, one a key; they are written shard by shard."""
        self._known.update(zip(keys, values.clone(), strict=True))
        self._unwritten += keys
        if len(self._unwritten) >= SHARD:
            self.write()

    def write(self) -> None:
        """What was added since; with a warning, in memory alone, where the folder cannot be written."""
        keys, self._unwritten = self._unwritten, []
        if not keys or self.folder is None:
            return
        index = torch.tensor([list(key) for key in keys], dtype=torch.uint8)
        values = torch.stack([self._known[key] for key in keys])
        try:
            name = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
            save_tensors({"keys": index, "values": values}, self.folder / f"{name}.safetensors")
        except OSError as error:
            warnings.warn(f"Could not keep {self.folder}: {error}; it is computed again next time.", stacklevel=4)
