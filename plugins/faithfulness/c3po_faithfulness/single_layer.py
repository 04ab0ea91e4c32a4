"""Single-layer effects, what attribution only estimates, measured: the selectors ``causal`` and ``oracle-layers``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self, cast

import torch
from pydantic import InstanceOf
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    Loss,
    PathwayOptimizer,
    Problem,
    ScoredLayers,
    Selection,
    SettingError,
    TrainingReferences,
)


@dataclass(frozen=True, kw_only=True)
class Causal(ScoredLayers):
    """Layers with the largest single-layer effects on the neighbours' loss: an upper bound in cost, not for use.

    Every MoE layer is re-mixed by ``optimizer`` (None: the run's own) with all others left as they are, so that a
    selection costs as many descents as there are layers.
    """

    optimizer: InstanceOf[PathwayOptimizer] | None = None
    name: ClassVar[str] = "causal"

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, optimizer=self.optimizer or training.optimizer)

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        return self.single_layer_effects(problem, lambda p: p.loss), None

    def single_layer_effects(self, problem: Problem, loss: Callable[[Problem], Loss]) -> Tensor:
        """``[B, L]`` by how much ``loss`` falls when only that layer is re-mixed.

        Before and after are measured by one function, in which the whole pathway acts: that of a selection is another,
        for there the neighbours go their own way in all other layers.
        """
        if self.optimizer is None:
            raise SettingError(f"{self.name} expected an optimizer to re-mix layers with, got none; pass optimizer=….")
        experts = self.core_size(problem)
        with torch.no_grad():
            before = loss(problem)(problem.own)
        found = []
        for row in torch.eye(len(problem.layers), dtype=torch.bool):
            weights = remixed_in(row, problem, self.optimizer, experts)
            with torch.no_grad():
                found.append(before - loss(problem)(weights))
        return torch.stack(found, 1)


@dataclass(frozen=True, kw_only=True)
class OracleLayers(Causal):
    """Layers whose single-layer effects make the right answer likelier most: an upper bound that uses the label.

    ``optimizer`` re-mixes without the label, as it does in the end; only which layers it is let loose on is chosen by
    the label. Layers that would do harm are left, all of them if need be.
    """

    name: ClassVar[str] = "oracle-layers"
    needs_label: ClassVar[bool] = True

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        if not isinstance(problem, LabeledProblem):
            raise SettingError("oracle-layers expected questions with known answers, got a problem without labels.")
        return self.single_layer_effects(problem, lambda p: cast(LabeledProblem, p).label_loss), None


def remixed_in(rows: Tensor, problem: Problem, optimizer: PathwayOptimizer, experts: int) -> Tensor:
    """The optimizer's ω ``[B, L, E]`` within the core experts of ``rows [L]`` (bool).

    One that is no upper bound does not get to see the labels.
    """
    chosen = problem.within(Selection(problem.core(experts) & rows[:, None]))
    if isinstance(chosen, LabeledProblem) and not optimizer.needs_label:
        chosen = chosen.unlabeled()
    return optimizer.optimize(chosen).detach()
