"""References to train on, for strategies that learn: asked as test questions are, but with their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SettingError
from ..kernels.base import Array, ReferenceFeatures
from ..models.routed import RoutedModel
from ..optimizers._question_features import FORM, KNOWN_AND_LOSS, parts
from ..optimizers._reference_artifacts import GRADIENT
from ..problem import LabeledProblem, ReferenceArtifact
from ..progress import bar
from ..references.artifacts import mean_flops, of_references
from ..references.learned import deciding, learned_once
from ..references.reference_set import ReferenceSet
from ..settings import RemixSettings
from ..storage.kept import NoSource
from ..tasks.formats import Format
from ..types import Question
from .strategies import Strategies

if TYPE_CHECKING:
    from .sample_batch import SampleBatch


FLOPS, KEPT = "flops", "kept "  # beside what was learned: what it took, and each artifact that it looked at
_LOOKED_UP = (GRADIENT.compute, KNOWN_AND_LOSS.compute)
"""What learners of plugins, too, take from the package: its code decides what they learn."""


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
        artifact_flops: FLOPs of each artifact that was asked for, of all candidates: computed once, whoever asks.
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
    artifact_flops: dict[str, float] = field(default_factory=dict)
    left: int = 0

    @property
    def optimizer(self) -> Any:
        return self.strategies.learned_with

    @property
    def known(self) -> int:
        return len(self._shuffled)

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        known, skip = self._shuffled, skip + self.taken
        check_enough(n + skip, len(known))
        drawn = known[skip : skip + n]
        parts = [drawn[i : i + self.together] for i in range(0, n, self.together)]
        for part in bar(parts, f"learning from {n} references"):
            batch = self.ask(part)
            yield cast(LabeledProblem, batch.problem(labeled=True))
            self.spent.append(batch.spending.flops)

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
        run = partial(self.model.prefill, scope=self.settings.scope)
        labeled = (artifact, self.model, prompts, [cast(int, q.answer) for q in asked], run)
        folder = candidates.artifacts_folder
        found = of_references(*labeled, self.settings, folder=folder, progress=bar)
        if artifact.name not in self.artifact_flops:
            self.artifact_flops[artifact.name] = len(candidates) * mean_flops(*labeled, self.settings, folder=folder)
        return found

    def features(self, text: Array) -> ReferenceFeatures:
        """What kernels and retrievers that learn are prepared on: ``text [N, D]`` of all candidates, and what the
        references that ``of_references`` gives teach.
        """
        slope = self.of_references(GRADIENT)
        slope = slope - slope.mean(-1, keepdim=True)
        return ReferenceFeatures(text, self._parts(self.of_references(KNOWN_AND_LOSS)), slope.cpu().numpy())

    def known_of_candidates(self) -> dict[str, NDArray[np.floating]]:
        """What the model knows of every candidate, also of those that nothing is learned from."""
        everyone = replace(self, held_out=frozenset(), taken=0, left=0)
        return self._parts(everyone.of_references(KNOWN_AND_LOSS))

    def _parts(self, seen: Tensor) -> dict[str, NDArray[np.floating]]:
        """Of what ``KNOWN_AND_LOSS`` gives."""
        raw = seen[:, :-1]
        form_and_pathway = FORM + len(self.model.layers) * self.model.n_experts
        return parts(raw, raw.shape[1] - form_and_pathway)

    @property
    def _shuffled(self) -> list[Question]:
        """The references that are not asked themselves, in the order in which they are drawn."""
        known = [q for q in self._references().questions if q.id not in self.held_out]
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.settings.seed))
        return [known[row] for row in order.tolist()]

    def once(self, learner: Any, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        references = self._references()
        try:
            identity = self._identity(learner)
        except NoSource:
            return learn()
        known = learned_once(references, identity, lambda: self._counted(learn))
        self.spent.append(known[FLOPS].item())
        stored = {name.removeprefix(KEPT): tensor.item() for name, tensor in known.items() if name.startswith(KEPT)}
        self.artifact_flops.update(stored | self.artifact_flops)
        return {name: tensor for name, tensor in known.items() if name != FLOPS and not name.startswith(KEPT)}

    def _counted(self, learn: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What is learned, and what asking the references for it took."""
        before, there = len(self.spent), dict(self.artifact_flops)
        self.artifact_flops.clear()  # to see what this asks for
        learned = learn()
        new = {f"{KEPT}{name}": torch.tensor(flops, dtype=torch.float64) for name, flops in self.artifact_flops.items()}
        self.artifact_flops.update(there)
        flops = torch.tensor(sum(self.spent[before:]), dtype=torch.float64)
        del self.spent[before:]
        return learned | new | {FLOPS: flops}

    def _references(self) -> ReferenceSet:
        if self.references is None:
            raise SettingError("Expected a reference set to learn from, got none; pass refset=…")
        return self.references

    def _identity(self, learner: Any) -> list[Any]:
        """What decides what is learned."""
        references, s = self._references(), self.strategies
        strategies = [learner, self.optimizer, s.kernel, s.retriever]
        settings = self.settings.model_dump() | {"head": self.model.head_for(self.settings.head)}
        asked = [sorted(self.held_out & {q.id for q in references.questions}), self.taken, self.left]
        asked.append(s.needs_neighbours)  # none are retrieved for who needs none: then it learns something else
        return [*deciding(references, strategies, _LOOKED_UP, self.model, self.format, settings, asked), FLOPS]


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
