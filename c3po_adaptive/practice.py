"""References as practice for selectors that learn: asked as test questions are, but with their labels."""

from __future__ import annotations

import hashlib
import inspect
import os
import warnings
from abc import ABC
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from .errors import DataError, SettingError
from .progress import bar
from .reference import ReferenceSet, fingerprint, packages

if TYPE_CHECKING:
    from .problem import LabelledProblem
    from .remixer import Remixer


@dataclass(frozen=True, eq=False)
class ReferencePractice:
    """The references of a remixer, whose strategies they are asked with; a ``Practice``."""

    remixer: Remixer

    @property
    def references(self) -> ReferenceSet:
        """Those answered right, and those answered wrong."""
        if self.remixer.references is None:
            raise SettingError("Expected a reference set to learn from, got none; pass refset=…")
        return self.remixer.references

    @property
    def optimizer(self) -> Any:
        return self.remixer.optimizer

    def problems(self, n: int, skip: int = 0) -> Iterator[LabelledProblem]:
        known = [q for q in self.references.questions if q.id not in self.remixer.held_out]
        check_enough(n + skip, len(known), len(self.references))
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.remixer.seed))
        drawn = [known[row] for row in order[skip : skip + n].tolist()]
        together = self.remixer.batch_size
        for i in bar(f"learning from {n} references")(range(0, n, together)):
            yield cast("LabelledProblem", self.remixer.practising(drawn[i : i + together]).problem(labelled=True))

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        try:
            key = hashlib.sha256(repr(self._identity(learner)).encode()).hexdigest()[:20]
        except _NoSource:
            return learn()
        known, folder = self.references.learned, self.references.folder
        if key not in known:
            path = None if folder is None else folder / "learned" / f"{key}.safetensors"
            known[key] = learn() if path is None or not path.is_file() else _read(path)
            if path is not None and not path.is_file():
                _write(path, known[key])
        return known[key]

    def _identity(self, learner: Any) -> list[Any]:
        """What decides what is learned."""
        r = self.remixer
        strategies = [learner, r.optimizer, r.kernel, r.retriever]
        ways = [r.format, r.scope, r.transfer, r.target, r.model.head_for(r.head), r.mix, r.learn_from, r.labels]
        asked = sorted(r.held_out & {q.id for q in self.references.questions})
        source = self.references.card.get("source"), fingerprint(r.model), str(r.model.model.dtype), packages()
        return [strategies, list(map(_code, strategies)), ways, r.max_similarity, r.seed, asked, source]


def check_enough(wanted: int, known: int, references: int) -> None:
    """Refuse to learn from more than the ``known`` references, those that are not asked themselves."""
    if wanted > known:
        raise SettingError(
            f"Expected at least {wanted} references to practise on, got {known} of {references} (without those that "
            "are asked themselves); give more, or set practice to fewer."
        )


class _NoSource(Exception):
    """A class of a notebook's cell has no file to tell its code by."""


def _code(strategy: Any) -> list[Any]:
    """Hashes of the files that a strategy's class and its bases stand in, and those of the strategies that it wraps: a
    plugin may be edited.
    """
    try:
        files = {inspect.getsourcefile(kind) for kind in type(strategy).__mro__ if kind not in (object, ABC)}
    except (OSError, TypeError) as error:
        raise _NoSource from error
    own = [hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] for file in sorted(filter(None, files))]
    parts = [getattr(strategy, f.name) for f in fields(strategy)] if is_dataclass(strategy) else []
    return own + [_code(part) for part in parts if is_dataclass(part)]


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is cut short or altered: {error}; delete it, and it is learned again.") from error


def _write(path: Path, learned: dict[str, Tensor]) -> None:
    """With a warning, in memory alone, where it cannot be written."""
    from safetensors.torch import save_file

    writing = path.with_suffix(f".{os.getpid()}.writing")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(learned, writing)
        os.replace(writing, path)
    except (OSError, SafetensorError) as error:
        warnings.warn(f"Could not keep {path}: {error}; it is learned again next time.", stacklevel=3)
