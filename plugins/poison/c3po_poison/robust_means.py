"""What neighbours teach, so that one cannot have its way: the optimizers ``median-of-means`` and ``agreeing``, wrappers
around another.

A mean follows one reference as far as it likes. A median of several means follows none, and what neighbours agree on
beyond noise is nothing where one alone says it. Several that lie together can have their way: in most groups, or as
what is agreed on. What they save, and what they cost where nothing is poisoned: ``studies/poisoned``.

Try it: ``c3po demo --arm median-of-means --arm agreeing``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self, TypeVar

import torch
from pydantic import Field, InstanceOf
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    PathwayOptimizer,
    Problem,
    ReferenceArtifact,
    SettingError,
    TrainingReferences,
    as_part_says,
    default_registry,
    hookimpl,
)

P = TypeVar("P", bound=Problem)
Mean = Callable[[Tensor, Tensor], Tensor]
"""``([B, K, …], [B, K]) -> [B, …]``: what neighbours teach together, by what each teaches and its weight."""


def _step() -> PathwayOptimizer:
    made: PathwayOptimizer = default_registry().create("optimizer", "integrated-step")
    return made


@dataclass(frozen=True)
class RobustMean(PathwayOptimizer):
    """Another optimizer, in whose eyes every neighbour teaches what they teach together, robustly.

    It holds for gradients that are looked up (``problem.of_neighbours``: ``integrated-step``, ``amortized-ngd``), for
    pathways that are averaged (``kernel-regression``), and for what one change for all learns
    (``constant-integrated-step``, ``constant``: references in the order of the set). The neighbours' loss, which
    ``ngd`` descends, stays a mean: that one is refused.

    Attributes:
        of: whose steps they are.
    """

    of: InstanceOf[PathwayOptimizer] = field(default_factory=_step)
    needs_neighbours = as_part_says("needs_neighbours")
    references_needed = as_part_says("references_needed")
    changes = as_part_says("changes")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of.name in ("ngd", "mode-finding", "oracle"):
            raise SettingError(
                f"Expected an optimizer that takes means of what neighbours teach, got {self.of.name}, which does not; "
                "take integrated-step, amortized-ngd or kernel-regression."
            )

    @abstractmethod
    def mean(self, each: Tensor, weight: Tensor) -> Tensor:
        """``[B, …]`` what neighbours teach together, by what ``each [B, K, …]`` teaches and its ``weight [B, K]``."""

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, of=self.of.prepare(_Robust(training, self.mean)))

    def optimize(self, problem: Problem) -> Tensor:
        return self.of.optimize(told_together(problem, self.mean))


@dataclass(frozen=True)
class MedianOfMeans(RobustMean):
    """The median of what groups of neighbours teach on average.

    A question's neighbours are dealt out in turn, the nearest first, to ``groups``; each group's mean is taken by their
    kernel weights, and of the means the median, coordinate by coordinate (Nemirovski and Yudin 1983; as a defence of
    learning: Yin et al. 2018, arXiv 1803.01498). One reference can spoil one group only, however much it weighs; it
    takes one in most of the groups, three of five, to have their way.

    Attributes:
        groups: how many; an even number has the mean of the two in the middle. Those without weight are left out.
    """

    groups: Annotated[int, Field(ge=2)] = 5
    name: ClassVar[str] = "median-of-means"

    def mean(self, each: Tensor, weight: Tensor) -> Tensor:
        place = torch.arange(weight.shape[1], device=weight.device) % self.groups
        groups = torch.arange(self.groups, device=weight.device)[:, None]
        mine = weight[:, None] * (place == groups)  # [B, G, K]
        total = mine.sum(-1)
        means = torch.einsum("bgk,bk...->bg...", mine / total.clamp_min(1e-30)[..., None], each)
        means = means.masked_fill(_like(total <= 0, means), torch.nan)
        return means.nanquantile(0.5, dim=1).nan_to_num()


@dataclass(frozen=True)
class Agreeing(RobustMean):
    """The mean of what neighbours teach, less what is noise in it.

    Each coordinate m of the mean is shrunk to (1 − v / m²)₊ m with v = Σ w_i² g_i², in the manner of James and Stein
    (1961), as the optimizer ``shrunken`` does: m² − v is what products of *different* neighbours' gradients add up to,
    so what one neighbour alone says is noise, however loudly it says it. Where all say the same, too, a share of 1 / K
    is taken off, or more where few weigh much.
    """

    name: ClassVar[str] = "agreeing"

    def mean(self, each: Tensor, weight: Tensor) -> Tensor:
        share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-30)
        terms = _like(share, each) * each
        mean, noise = terms.sum(1), terms.square().sum(1)
        return (1 - noise / mean.square().clamp_min(1e-30)).clamp_min(0) * mean


@dataclass(frozen=True)
class _Robust:
    """References of which every one teaches what they teach together."""

    training: TrainingReferences
    mean: Mean

    @property
    def optimizer(self) -> Any:
        return self.training.optimizer

    @property
    def known(self) -> int:
        return self.training.known

    def problems(self, n: int, skip: int = 0) -> Iterator[LabeledProblem]:
        return (told_together(problem, self.mean) for problem in self.training.problems(n, skip))

    def of_references(self, artifact: ReferenceArtifact) -> Tensor:
        each = self.training.of_references(artifact)
        return lent(each[None], each.new_ones(1, len(each)), self.mean)[0]

    def once(self, learner: Any, learn: Any) -> dict[str, Tensor]:
        return self.training.once(learner, learn)


def told_together(problem: P, mean: Mean) -> P:
    """A problem each of whose neighbours teaches what they teach together, within any selection, too."""
    weight, own = problem.neighbours.weight, problem.own[:, None]

    def of_neighbours(artifact: ReferenceArtifact) -> Tensor:
        return lent(problem.of_neighbours(artifact), weight, mean)

    pathways = own + lent(problem.neighbour_pathways - own, weight, mean)
    within = problem.within
    return replace(
        problem,
        of_neighbours=of_neighbours,
        neighbour_pathways=pathways,
        within=lambda selection: told_together(within(selection), mean),
    )


def lent(each: Tensor, weight: Tensor, mean: Mean) -> Tensor:
    """``each [B, K, …]`` with what every neighbour teaches replaced by what they teach together by ``weight [B, K]``;
    zeros stay where there is no neighbour.
    """
    exact = torch.promote_types(each.dtype, torch.float32)
    together = mean(each.to(exact), weight.to(exact))[:, None]
    return torch.where(_like(weight > 0, each), together, 0.0).to(each.dtype)


def _like(few: Tensor, many: Tensor) -> Tensor:
    """``few [B, K]`` beside ``many [B, K, …]``."""
    return few.view(*few.shape, *[1] * (many.ndim - 2))


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [MedianOfMeans, Agreeing]
