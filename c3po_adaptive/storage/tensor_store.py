"""Tensors by key, in memory and in a folder: what takes long to compute of each reference is computed once."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from .kept import AGAIN, short_digest
from .sealed import TENSORS, load_sealed, save_sealed, sealed_files

SHARD = 128


class TensorStore:
    """One tensor a key, of an identity. Files are shards named by it, their keys and what they hold: two processes that
    compute the same write the same, and what was computed otherwise is not met."""

    def __init__(self, folder: Path | None, identity: Any = None) -> None:
        """Read what is in the folder, if there is one.

        Args:
            folder: of the shards, also of other identities.
            identity: all that decides what the tensors are beside their keys, as JSON has it.

        Raises:
            DataError: a shard is cut short, altered, or no such store's.
        """
        self.folder, self.name = folder, short_digest(identity)
        self._known: dict[bytes, Tensor] = {}
        self._unwritten: list[bytes] = []
        for path in [] if folder is None else sealed_files(folder, f"{self.name}-*", TENSORS):
            keys, values = _shard(path)
            if any(_kind(other) != _kind(values[0]) for other in [*self._known.values()][:1]):
                raise DataError(f"{path}: expected tensors like those beside it, got others; {AGAIN}.")
            self._known.update(zip(keys, values, strict=True))

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
        of = f"{self.name}-{hashlib.sha256(b''.join(keys)).hexdigest()[:16]}"
        try:
            save_sealed({"keys": index, "values": values}, self.folder, of)
        except OSError as error:
            warnings.warn(f"Could not keep {self.folder}: {error}; it is computed again next time.", stacklevel=4)


def _kind(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    return tensor.dtype, tensor.shape


def _shard(path: Path) -> tuple[list[bytes], Tensor]:
    """N keys, at least one, and ``[N, …]`` their tensors."""
    tensors = load_sealed(path, AGAIN)
    keys, values = (tensors.get(name, torch.empty(())) for name in ("keys", "values"))
    if keys.dtype != torch.uint8 or keys.ndim != 2 or not values.ndim or not 0 < len(keys) == len(values):
        found = {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}
        raise DataError(f"{path}: expected keys, uint8 [N, …], and values [N, …], got {found}; {AGAIN}.")
    return list(map(bytes, keys.tolist())), values
