"""SteerMoE: experts whose activity tells one behavior from another are switched on or off, in one file.

Fayyaz et al. 2025, "Steering MoE LLMs via Expert (De)Activation" (ICLR 2026, arXiv 2509.09660). The risk difference of
an expert is how often it is among a token's top k in one behavior, less how often in the other: Δ = p₁ − p₂. Of the
experts with the greatest |Δ|, those of the first behavior are switched on and those of the second off: with s the
router's log-probabilities, s_e ← max(s) + 0.01 or s_e ← min(s) − 0.01, then softmax and top k as ever. One change for
all questions. What the paper claims: up to +20 % safety and +27 % faithfulness, across 11 benchmarks and 6 models.

The settings are those released for OLMoE and faithfulness: 50 of its 1,024 experts off, none on (its other tasks take 0
to 125 off, 0 to 10 on). Where fewer experts have a difference of that sign, so many are steered. As in the released
code no layer has more experts on than it uses.

Where this departs from the paper: the behaviors are references that the model answers right and wrong, unpaired; rates
are of the prompt's last token, where ω acts (the paper counts and steers every token); a layer keeps its mass; and it
steers in the selected layers and experts alone: ``selector: {name: fixed, layers: all, experts: null}`` for all, as in
studies/rivals.

Try it: ``c3po demo --arm steermoe`` (in the last five layers' core experts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import Tensor

from c3po_adaptive import (
    DataError,
    PathwayOptimizer,
    Problem,
    SettingError,
    TrainingReferences,
    hookimpl,
    toward,
)


@dataclass(frozen=True)
class SteerMoE(PathwayOptimizer):
    """Experts of wrong answers off, experts of right answers on: one change for all questions, learned from references.

    Attributes:
        off: how many experts, of all layers together, are switched off at most.
        on: how many are switched on at most.
        margin: how far beyond the other log-probabilities theirs are set.
        training: references whose answers tell the experts apart.
    """

    off: NonNegativeInt = 50
    on: NonNegativeInt = 0
    margin: PositiveFloat = 0.01
    training: Annotated[int, Field(ge=2)] = 256
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "steermoe"
    needs_neighbours: ClassVar[bool] = False

    @property
    def references_needed(self) -> int:
        return self.training

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, learned=training.once(self, lambda: self._learn(training)))

    def _learn(self, training: TrainingReferences) -> dict[str, Tensor]:
        used, right = [], []
        for problem in training.problems(self.training):
            used.append(problem.used)
            right.append(problem.own_scores.argmax(-1) == problem.answers)
        return {"difference": risk_difference(torch.cat(used), torch.cat(right))}

    def optimize(self, problem: Problem) -> Tensor:
        if self.learned is None:
            raise SettingError("steermoe expected references to learn from first; use it through Optimizer or a run.")
        used = problem.used.sum(-1, keepdim=True)
        on, off = self._steered(self.learned["difference"], int(used.max()))
        scores = problem.router.clamp_min(1e-30).log()
        scores = torch.where(on, scores.amax(-1, keepdim=True) + self.margin, scores)
        scores = torch.where(off, scores.amin(-1, keepdim=True) - self.margin, scores)
        # the model's own experts come first, as they do where a bias has its say in its choice
        ranks = problem.ranking.masked_fill(on, torch.inf).masked_fill(off, -torch.inf)
        kept = _places(ranks) < used
        steered = ((kept != problem.used) | on).any(-1, keepdim=True)
        return torch.where(steered, toward(problem, kept * scores.softmax(-1)), problem.own)

    def _steered(self, difference: Tensor, per_layer: int) -> tuple[Tensor, Tensor]:
        """``[L, E]`` bool: experts that are switched on, and those that are switched off."""
        on = _greatest(difference, self.on)
        on = on & (_places(difference.where(on, -torch.inf)) < per_layer)
        return on, _greatest(-difference, self.off)


def risk_difference(used: Tensor, right: Tensor) -> Tensor:
    """``[L, E]`` how much oftener an expert is used in right answers than in wrong ones.

    Args:
        used: ``[N, L, E]`` bool.
        right: ``[N]`` bool.

    Raises:
        DataError: all are right, or all are wrong.
    """
    if right.all() or not right.any():
        raise DataError(
            f"steermoe expected references that the model answers right and others that it answers wrong, got "
            f"{int(right.sum())} right of {len(right)}; give more, or other ones."
        )
    return used[right].float().mean(0) - used[~right].float().mean(0)


def _greatest(values: Tensor, n: int) -> Tensor:
    """``[L, E]`` bool: the n greatest of all layers' positive values."""
    return (_places(values.flatten()) < n).view_as(values) & (values > 0)


def _places(values: Tensor) -> Tensor:
    """``[..., N]`` the place of each from 0, the greatest; of equal ones the first comes first."""
    return values.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [SteerMoE]
