"""References as practice for selectors that learn: asked as test questions are, but with their labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

    def problems(self, n: int) -> Iterator[LabelledProblem]:
        known = [q for q in self.references.questions if q.id not in self.remixer.held_out]
        if n > len(known):
            raise SettingError(
                f"Expected at least {n} references to practise on, got {len(known)} of {len(self.references)} (without "
                "those that are asked themselves); give more, or set practice to fewer."
            )
        drawn = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.remixer.seed))[:n].tolist()
        together = self.remixer.batch_size
        for i in bar("practice")(range(0, n, together)):
            batch = self.remixer.labelled([known[row] for row in drawn[i : i + together]])
            yield cast("LabelledProblem", batch.problem(labelled=True))

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        from safetensors.torch import load_file, save_file

        key = hashlib.sha256(repr(self._identity(learner)).encode()).hexdigest()[:20]
        folder = self.references.folder
        if key in self.references.learned:
            return self.references.learned[key]
        path = None if folder is None else folder / "learned" / f"{key}.safetensors"
        if path is not None and path.is_file():
            return load_file(path)
        found = self.references.learned[key] = learn()
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            writing = path.with_suffix(f".{os.getpid()}.writing")
            try:
                save_file(found, writing)
                os.replace(writing, path)
            except (OSError, SafetensorError) as error:
                raise DataError(f"Could not write {path}: {error}; free the disk, and run again.") from error
        return found

    def _identity(self, learner: Any) -> list[Any]:
        """What decides what is learned."""
        r = self.remixer
        ways = (
            r.format,
            r.scope,
            r.transfer,
            r.target,
            r.model.head_for(r.head),
            r.learn_from,
            r.labels,
            r.max_similarity,
            r.seed,
            sorted(r.held_out & {q.id for q in self.references.questions}),
        )
        source = self.references.card.get("source"), fingerprint(r.model), packages()
        return [learner, r.optimizer, r.kernel, r.retriever, ways, source]
