"""What most groups of neighbours teach: the optimizer ``median-of-means``, a wrapper around another.

A mean follows one reference as far as it likes; a median of several means follows none. What it saves, and what it
costs where nothing is poisoned: ``studies/poisoned``.

Try it: ``c3po demo --plugin plugins/median_of_means.py --arm median-of-means``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    PathwayOptimizer,
    Problem,
    ReferenceArtifact,
    SettingError,
    TrainingReferences,
    check_number,
    default_registry,
    hookimpl,
)


def _step() -> PathwayOptimizer:
    made: PathwayOptimizer = default_registry().create("optimizer", "integrated-step")
    return made


@dataclass(frozen=True)
class MedianOfMeans(PathwayOptimizer):
    """Another optimizer, in whose eyes every neighbour teaches the median of what groups of them teach on average.

    A question's neighbours are dealt out in turn, the nearest first, to ``groups``; each group's mean is taken by their
    kernel weights, and of the means the median, coordinate by coordinate (Nemirovski and Yudin 1983; as a defence of
    learning: Yin et al. 2018, arXiv 1803.01498). One reference can spoil one group only, however much it weighs.

    It holds for gradients that are looked up (``problem.of_neighbours``: ``integrated-step``, ``amortized-ngd``), for
    pathways that are averaged (``kernel-regression``), and for what one change for all learns
    (``constant-integrated-step``, ``constant``: references in the order of the set). The neighbours' loss, which
    ``ngd`` descends, stays a mean: that one is refused.

    Attributes:
        of: whose steps they are.
        groups: how many; an even number has the mean of the two in the middle.
    """

    of: PathwayOptimizer = field(default_factory=_step)
    groups: int = 5
    name: ClassVar[str] = "median-of-means"

    def __post_init__(self) -> None:
        if not isinstance(self.of, PathwayOptimizer):
            raise SettingError(
                f"Expected median-of-means.of to be a PathwayOptimizer, got {self.of!r}; names are looked up where "
                'median-of-means itself is given by name: {"name": "median-of-means", "of": …}.'
            )
        if self.of.name in ("ngd", "mode-finding", "oracle"):
            raise SettingError(
                f"Expected an optimizer that takes means of what neighbours teach, got {self.of.name}, which does not; "
                "take integrated-step, amortized-ngd or kernel-regression."
            )
        check_number(self, "groups", at_least=2, whole=True)

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most optimizers
        return self.of.needs_neighbours

    @property
    def references_needed(self) -> int:
        return self.of.references_needed

    @property
    def changes(self) -> Any:  # type: ignore[override]
        return self.of.changes

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, of=self.of.prepare(_Robust(training, self.groups)))

    def optimize(self, problem: Problem) -> Tensor:
        weight = problem.neighbours.weight

        def of_neighbours(artifact: ReferenceArtifact) -> Tensor:
            return lent(problem.of_neighbours(artifact), weight, self.groups)

        pathways = lent(problem.neighbour_pathways, weight, self.groups)
        return self.of.optimize(replace(problem, of_neighbours=of_neighbours, neighbour_pathways=pathways))


@dataclass(frozen=True)
class _Robust:
    """References of which every one teaches the median of their groups' means."""

    training: TrainingReferences
    groups: int

    @property
    def optimizer(self) -> Any:
        return self.training.optimizer

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        return self.training.problems(n, skip)

    def of_references(self, artifact: ReferenceArtifact) -> Tensor:
        each = self.training.of_references(artifact)
        return lent(each[None], each.new_ones(1, len(each)), self.groups)[0]

    def once(self, learner: Any, learn: Any) -> dict[str, Tensor]:
        return self.training.once(learner, learn)


def lent(each: Tensor, weight: Tensor, groups: int) -> Tensor:
    """``each [B, K, …]`` with what every neighbour teaches replaced by the median of their groups' means by ``weight
    [B, K]``; zeros stay where there is no neighbour. Groups without weight are left out.
    """
    place = torch.arange(weight.shape[1]) % groups
    mine = weight[:, None] * (place == torch.arange(groups)[:, None])  # [B, G, K]
    total = mine.sum(-1)
    means = torch.einsum("bgk,bk...->bg...", mine / total.clamp_min(1e-30)[..., None], each)
    shape = (*total.shape, *[1] * (each.ndim - 2))
    median = means.masked_fill((total <= 0).view(shape), torch.nan).nanquantile(0.5, dim=1, keepdim=True)
    there = (weight > 0).view(*weight.shape, *[1] * (each.ndim - 2))
    return torch.where(there, median, 0.0).to(each.dtype)


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [MedianOfMeans]
