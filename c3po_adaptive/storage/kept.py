"""What takes long to compute and can be computed again: stored in a folder under all that decides it, computed once."""

from __future__ import annotations

import ast
import hashlib
import inspect
import warnings
from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..errors import DataError, disk_says
from ..progress import RESUMES
from .checksummed import (
    TENSORS,
    checksummed_files,
    load_checksummed,
    save_checksummed,
    verify_checksum,
    write_checksummed,
)
from .identity import digest, digest_of_file
from .tensors import load_tensors, save_tensors

AGAIN = "delete it, and it is computed again"
SHARD = 128
T = TypeVar("T")


class NoSource(Exception):
    """A class or a function of a notebook's cell has no file to tell its code by."""


@dataclass(frozen=True)
class Form(Generic[T]):
    """How a value stands in a file.

    Attributes:
        suffix: of the file's name.
        write: raises OSError where the disk refuses it.
        read: from a file that is whole.
    """

    suffix: str
    write: Callable[[T, Path], None]
    read: Callable[[Path], T]


NAMED_TENSORS: Form[Mapping[str, Tensor]] = Form(TENSORS, save_tensors, lambda path: load_tensors(path, AGAIN))


def kept(folder: Path, identity: Any, compute: Callable[[], T], form: Form[T], of: str = "") -> T:
    """The value that ``compute`` gives, from a file if it was computed before.

    The file is written whole or not at all; of two processes that compute the same, both write the same. Where the
    folder cannot be written, the value is not stored, with a warning.

    Args:
        folder: also of other values.
        identity: all that decides the value, as JSON has it.
        compute: called if nothing is stored under that identity.
        form: how the value stands in a file.
        of: what the file's name begins with, for people.

    Raises:
        DataError: the file is cut short or altered.
    """
    name = f"{of}{short_digest(identity)}"
    there = checksummed_files(folder, name, form.suffix)
    if not there:
        value = compute()
        try:
            there = [write_checksummed(folder, name, form.suffix, partial(form.write, value))]
        except OSError as error:
            warnings.warn(
                f"Could not keep {folder / name}: {disk_says(error)}; it is computed again next time.", stacklevel=3
            )
            return value
    else:
        verify_checksum(there[0], AGAIN)
    return form.read(there[0])


def short_digest(identity: Any) -> str:
    """What a file is named by."""
    return digest(identity)[:20]


def code_of(*things: Any) -> list[str]:
    """Hashes of the files that decide what classes, functions and strategies do, as all of them may be edited.

    Those are the files that they and their bases are defined in, of a strategy's parts, too, and what is imported there
    of the same folder, or of a file whose name begins with ``_``: an edit of another strategy's file changes nothing.

    Raises:
        NoSource: one of them stands in no file, or does what its file does not say: a partial with arguments, or an
            object that is no dataclass.
    """
    files = {file for thing in things for file in _files(thing)}
    return [digest_of_file(file)[:16] for file in sorted(files)]


def _files(thing: Any) -> Iterator[Path]:
    thing = _undecorated(thing)
    defined = [thing] if inspect.isfunction(thing) else _classes(thing if isinstance(thing, type) else type(thing))
    for one in defined:
        try:
            source = Path(inspect.getsourcefile(one) or "")
        except (OSError, TypeError) as error:
            raise NoSource from error
        if not source.is_file():
            raise NoSource
        yield from _with_imports(source)
    parts = [getattr(thing, f.name) for f in fields(thing)] if is_dataclass(thing) and thing not in defined else []
    yield from (file for part in parts if is_dataclass(part) for file in _files(part))


def _undecorated(thing: Any) -> Any:
    """What a decorated function or a partial without arguments calls; the decorator's file would say nothing of it."""
    thing = inspect.unwrap(thing)
    if isinstance(thing, partial) and not (thing.args or thing.keywords):
        return _undecorated(thing.func)
    if not (inspect.isfunction(thing) or isinstance(thing, type) or is_dataclass(thing)):
        raise NoSource
    return thing


def _classes(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base not in (object, ABC, Generic)]


def _with_imports(file: Path) -> set[Path]:
    """A file, and those that decide with it what its functions do, wherever in their text they are imported."""
    found, left = set[Path](), [file]
    while left:
        if (file := left.pop()) not in found:
            found.add(file)
            left += _imported(file)
    return found


def _imported(file: Path) -> Iterator[Path]:
    for level, name in _relative_imports(file.read_bytes()):
        module = file.parents[level - 1].joinpath(*name.split("."))
        if level == 1 or module.name.startswith("_"):
            yield from filter(Path.is_file, (module.with_suffix(".py"), module / "__init__.py"))


@lru_cache(1024)
def _relative_imports(source: bytes) -> list[tuple[int, str]]:
    """Level and name of each module."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    return [(n.level, name) for n in nodes for name in ([n.module] if n.module else [alias.name for alias in n.names])]


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
        for path in [] if folder is None else checksummed_files(folder, f"{self.name}-*", TENSORS):
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
            save_checksummed({"keys": index, "values": values}, self.folder, of)
            RESUMES.set(True)
        except OSError as error:
            warnings.warn(
                f"Could not keep {self.folder}: {disk_says(error)}; it is computed again next time.", stacklevel=4
            )


def _kind(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    return tensor.dtype, tensor.shape


def _shard(path: Path) -> tuple[list[bytes], Tensor]:
    """N keys, at least one, and ``[N, …]`` their tensors."""
    tensors = load_checksummed(path, AGAIN)
    keys, values = (tensors.get(name, torch.empty(())) for name in ("keys", "values"))
    if keys.dtype != torch.uint8 or keys.ndim != 2 or not values.ndim or not 0 < len(keys) == len(values):
        found = {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}
        raise DataError(f"{path}: expected keys, uint8 [N, …], and values [N, …], got {found}; {AGAIN}.")
    return list(map(bytes, keys.tolist())), values
