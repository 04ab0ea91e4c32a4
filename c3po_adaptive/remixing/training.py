"""References to train on, for strategies that learn: asked as test questions are, but with their labels."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..errors import SettingError
from ..models.identity import fingerprint
from ..models.routed import RoutedModel
from ..problem import LabeledProblem, ReferenceArtifact
from ..progress import bar
from ..references.artifacts import mean_flops, of_references
from ..references.reference_set import ReferenceSet
from ..settings import RemixSettings
from ..storage.identity import digest, digest_of_file, routing_versions
from ..storage.tensors import load_tensors, save_tensors
from ..tasks.formats import Format, format_key
from ..types import Question
from .strategies import Strategies

if TYPE_CHECKING:
    from .sample_batch import SampleBatch


FLOPS = "flops"  # kept beside what was learned


@dataclass(frozen=True, eq=False)
class ReferenceTraining:
    """The references of a remixer, asked with its strategies; a ``TrainingReferences``.

    Attributes:
        model: the frozen model.
        references: those answered right, and those answered wrong.
        strategies: those that they are asked with.
        format: how they are put.
        settings: how ω acts.
        held_out: ids of questions that are asked in the same run: nothing learns from them.
        together: how many are asked at once.
        ask: from references to the batch that they are.
        taken: how many of them something else learned from; they are skipped.
        spent: FLOPs that asking them took so far, beyond what the set knows of them.
        left: how many of them something else will learn from: those that are drawn next.
    """

    model: RoutedModel
    references: ReferenceSet | None
    strategies: Strategies
    format: str | Format
    settings: RemixSettings
    held_out: frozenset[str]
    together: int
    ask: Callable[[Sequence[Question]], SampleBatch]
    taken: int = 0
    spent: list[float] = field(default_factory=list)
    left: int = 0

    @property
    def optimizer(self) -> Any:
        return self.strategies.optimizer

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        known, skip = self._shuffled, skip + self.taken
        check_enough(n + skip, len(known))
        drawn = known[skip : skip + n]
        parts = [drawn[i : i + self.together] for i in range(0, n, self.together)]
        for part in bar(parts, f"learning from {n} references"):
            batch = self.ask(part)
            yield cast(LabeledProblem, batch.problem(labeled=True))
            self.spent.append(batch.flops)

    def of_references(self, artifact: ReferenceArtifact) -> Tensor:
        candidates, own = self._references().candidates(self.settings), self.optimizer.references_needed
        others = {q.id for q in [*self._shuffled[: self.taken], *self._shuffled[own : own + self.left]]}
        asked = [q for q in candidates.questions if q.id not in self.held_out | others]
        if not asked:
            raise SettingError(
                f"Expected references that {artifact.name} is of, got none of {len(candidates)} that are neither asked "
                "themselves nor learned from otherwise; give more, or set learn_from to all."
            )
        prompts = [self.model.encode(q, self.format) for q in asked]
        labeled = (artifact, self.model, prompts, [cast(int, q.answer) for q in asked], self.model.prefill)
        found = of_references(*labeled, self.settings, folder=candidates.folder, progress=bar)
        self.spent.append(len(asked) * mean_flops(*labeled, self.settings, folder=candidates.folder))
        return found

    @property
    def _shuffled(self) -> list[Question]:
        """The references that are not asked themselves, in the order in which they are drawn."""
        known = [q for q in self._references().questions if q.id not in self.held_out]
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.settings.seed))
        return [known[row] for row in order.tolist()]

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        references = self._references()
        try:
            key = digest(self._identity(learner))[:20]
        except _NoSource:
            return learn()
        known, folder = references.learned, references.folder
        if key not in known:
            path = None if folder is None else folder / "learned" / f"{key}.safetensors"
            kept = path is not None and path.is_file()
            again = "delete it, and it is learned again"
            known[key] = load_tensors(path, again) if kept and path else self._counted(learn)
            if path is not None and not kept:
                _keep(known[key], path)
        self.spent.append(known[key][FLOPS].item())
        return {name: tensor for name, tensor in known[key].items() if name != FLOPS}

    def _counted(self, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What is learned, and what asking the references for it took."""
        before = len(self.spent)
        learned = learn()
        flops = torch.tensor(sum(self.spent[before:]), dtype=torch.float64)
        del self.spent[before:]
        return learned | {FLOPS: flops}

    def _references(self) -> ReferenceSet:
        if self.references is None:
            raise SettingError("Expected a reference set to learn from, got none; pass refset=…")
        return self.references

    def _identity(self, learner: Any) -> list[Any]:
        """What decides what is learned."""
        references = self._references()
        s = self.strategies
        strategies = [learner, s.optimizer, s.kernel, s.retriever]
        model = [fingerprint(self.model), str(self.model.model.dtype), routing_versions()]
        settings = self.settings.model_dump() | {"head": self.model.head_for(self.settings.head)}
        asked = sorted(self.held_out & {q.id for q in references.questions})
        source = references.card.get("source")
        return [
            *(list(map(repr, strategies)), list(map(_code, strategies))),
            *(format_key(self.format), settings, asked, source, model, FLOPS),
        ]


def check_enough(wanted: int, known: int) -> None:
    """Refuse to learn from more than the ``known`` references, those that are not asked themselves.

    Raises:
        SettingError: there are fewer.
    """
    if wanted > known:
        raise SettingError(
            f"Expected at least {wanted} references to train on, got {known} (without those that are asked "
            "themselves); give more, or set training to fewer."
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
    own = [digest_of_file(Path(file))[:16] for file in sorted(filter(None, files))]
    parts = [getattr(strategy, f.name) for f in fields(strategy)] if is_dataclass(strategy) else []
    return own + [_code(part) for part in parts if is_dataclass(part)]


def _keep(learned: dict[str, Tensor], path: Path) -> None:
    """With a warning, in memory alone, where it cannot be written."""
    try:
        save_tensors(learned, path)
    except OSError as error:
        warnings.warn(f"Could not keep {path}: {error}; it is learned again next time.", stacklevel=3)
