"""What is learned from references, once: kept in memory, and beside the set."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from ..storage.identity import digest, digest_of_file, files_beside
from ..storage.sealed import TENSORS, load_sealed, save_sealed, sealed_files
from .reference_set import ReferenceSet

LEARNED = "learned"
"""The folder beside a set."""
AGAIN = "delete it, and it is computed again"


class NoSource(Exception):
    """A class of a notebook's cell has no file to tell its code by."""


def learned_once(references: ReferenceSet, identity: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What ``learn`` finds, or found before.

    Args:
        references: that it is learned from.
        identity: all that decides what is learned beside the references, as JSON has it: the model's fingerprint first.
        learn: called if nothing is kept under that identity.

    Raises:
        DataError: what is kept is cut short or altered.
    """
    key = digest([identity, _content(references)])[:20]
    known, folder = references.learned, references.folder
    if key not in known:
        kept = [] if folder is None else sealed_files(folder / LEARNED, key, TENSORS)
        known[key] = load_sealed(kept[0], AGAIN) if kept else learn()
        if folder is not None and not kept:
            _keep(known[key], folder / LEARNED, key)
    return known[key]


def code_of(strategy: Any) -> list[Any]:
    """Hashes of the files that a strategy's class and its bases stand in, with what a plugin file imports from beside
    it, and those of the strategies that it wraps: a plugin may be edited.

    Raises:
        NoSource: one of them stands in none.
    """
    try:
        files = {inspect.getsourcefile(kind) for kind in type(strategy).__mro__ if kind not in (object, ABC)}
    except (OSError, TypeError) as error:
        raise NoSource from error
    every = [*map(Path, sorted(filter(None, files))), *files_beside(type(strategy).__module__)]
    own = [digest_of_file(file)[:16] for file in every]
    parts = [getattr(strategy, f.name) for f in fields(strategy)] if is_dataclass(strategy) else []
    return own + [code_of(part) for part in parts if is_dataclass(part)]


@cache
def shared_code() -> list[str]:
    """Hashes of the files that the package's own strategies share: those of their rooms whose names begin with _."""
    rooms = [Path(__file__).parents[1] / room for room in ("optimizers", "selectors")]
    return [digest_of_file(file)[:16] for room in rooms for file in sorted(room.glob("_[!_]*.py"))]


def _content(references: ReferenceSet) -> str:
    """Hash of all that can be learned from."""
    asked = [(q.id, q.question, q.choices, q.answer) for q in references.questions]
    tensors = (references.embeddings.float(), references.pathways.float(), references.correct)
    return digest([asked, references.scores, [sha256(t.contiguous().numpy().data).hexdigest() for t in tensors]])


def _keep(learned: dict[str, Tensor], folder: Path, key: str) -> None:
    """With a warning, in memory alone, where it cannot be written."""
    try:
        save_sealed(learned, folder, key)
    except OSError as error:
        warnings.warn(f"Could not keep {folder / key}: {error}; it is learned again next time.", stacklevel=3)
