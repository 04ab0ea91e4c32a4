"""What is learned from references, once: kept in memory, and beside the set."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..storage.identity import digest, digest_of_file
from ..storage.tensors import load_tensors, metadata_of, save_tensors
from .reference_set import ReferenceSet

AGAIN = "delete it, and it is learned again"


class NoSource(Exception):
    """A class of a notebook's cell has no file to tell its code by."""


def learned_once(
    references: ReferenceSet, identity: Any, model: str, learn: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What ``learn`` finds, or found before.

    Args:
        references: that it is learned from.
        identity: all that decides what is learned, as JSON has it.
        model: fingerprint of the model that learns.
        learn: called if nothing is kept under that identity.

    Raises:
        DataError: what is kept is broken, or of another model.
    """
    key = digest(identity)[:20]
    known, folder = references.learned, references.folder
    if key not in known:
        path = None if folder is None else folder / "learned" / f"{key}.safetensors"
        kept = path is not None and path.is_file()
        known[key] = _read(path, model) if kept and path else learn()
        if path is not None and not kept:
            _keep(known[key], path, model)
    return known[key]


def code_of(strategy: Any) -> list[Any]:
    """Hashes of the files that a strategy's class and its bases stand in, and those of the strategies that it wraps: a
    plugin may be edited.

    Raises:
        NoSource: one of them stands in none.
    """
    try:
        files = {inspect.getsourcefile(kind) for kind in type(strategy).__mro__ if kind not in (object, ABC)}
    except (OSError, TypeError) as error:
        raise NoSource from error
    own = [digest_of_file(Path(file))[:16] for file in sorted(filter(None, files))]
    parts = [getattr(strategy, f.name) for f in fields(strategy)] if is_dataclass(strategy) else []
    return own + [code_of(part) for part in parts if is_dataclass(part)]


@cache
def shared_code() -> list[str]:
    """Hashes of the files that the package's own strategies share: those of their rooms whose names begin with _."""
    rooms = [Path(__file__).parents[1] / room for room in ("optimizers", "selectors")]
    return [digest_of_file(file)[:16] for room in rooms for file in sorted(room.glob("_[!_]*.py"))]


def _read(path: Path, model: str) -> dict[str, Tensor]:
    owner = metadata_of(path, AGAIN).get("model", model)
    if owner != model:
        raise DataError(f"Expected {path} to be learned with this model ({model}), got one of {owner}; {AGAIN}.")
    return load_tensors(path, AGAIN)


def _keep(learned: dict[str, Tensor], path: Path, model: str) -> None:
    """With a warning, in memory alone, where it cannot be written."""
    try:
        save_tensors(learned, path, {"model": model})
    except OSError as error:
        warnings.warn(f"Could not keep {path}: {error}; it is learned again next time.", stacklevel=3)
