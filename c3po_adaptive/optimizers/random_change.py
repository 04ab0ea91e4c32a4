"""As far as another optimizer goes, but anywhere: the control for where it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from pydantic import InstanceOf
from torch import Tensor

from ..checks import as_part_says
from ..problem import Problem, TrainingReferences
from ..routing.mixing import mass
from ._simplex import allowed_experts, project
from .base import PathwayOptimizer
from .ngd import NGD

HALVINGS = 40


@dataclass(frozen=True)
class RandomChange(PathwayOptimizer):
    """A Δω of the wrapped optimizer's length, layer by layer, in a random direction.

    The direction is Gaussian over the experts that may change. Where it leaves the valid weights it is projected back,
    and its length is that after projection. A layer that the wrapped optimizer leaves alone is left alone, and the cost
    is the wrapped optimizer's.

    Attributes:
        of: whose changes are matched.
    """

    of: InstanceOf[PathwayOptimizer] = field(default_factory=NGD)
    name: ClassVar[str] = "random-change"
    varies: ClassVar[str] = "changes in random directions"
    needs_neighbours = as_part_says("needs_neighbours")
    needs_label = as_part_says("needs_label")
    needs_truth = as_part_says("needs_truth")
    searches_pathways = as_part_says("searches_pathways")
    references_needed = as_part_says("references_needed")

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, of=self.of.prepare(training))

    def optimize(self, problem: Problem) -> Tensor:
        change = self.of.optimize(problem).detach() - problem.own
        length, allowed = change.double().norm(dim=-1, keepdim=True), allowed_experts(problem)
        own = problem.own.double()  # long steps are projected, too
        drawn = torch.stack([torch.randn(own.shape[1:], generator=g) for g in problem.generators]).to(own)
        direction = _reaching(drawn, own * allowed, allowed, length)

        def along(step: Tensor) -> Tensor:
            return project(own + step * direction, allowed, own)

        moved = along(_step(along, own, length)).to(problem.own)
        return torch.where(length > 0, moved, problem.own)


def _reaching(drawn: Tensor, own: Tensor, allowed: Tensor, length: Tensor) -> Tensor:
    """``drawn [B, L, E]`` with its greatest value on an expert whose corner of the valid weights is as far as that:
    there the projection of a long step ends.
    """
    total = mass(own)
    distance = (own.square().sum(-1, keepdim=True) - 2 * total * own + total.square()).clamp_min(0).sqrt()
    distance = distance.masked_fill(~allowed, -torch.inf)
    far = allowed & (distance >= torch.minimum(length, distance.amax(-1, keepdim=True)))
    first, wanted = (drawn.masked_fill(~where, -torch.inf).argmax(-1, keepdim=True) for where in (allowed, far))
    return drawn.scatter(-1, first, drawn.gather(-1, wanted)).scatter(-1, wanted, drawn.gather(-1, first))


def _step(along: Callable[[Tensor], Tensor], own: Tensor, length: Tensor) -> Tensor:
    """``[B, L, 1]`` the step whose projection is so long, by bisection of its logarithm: onto a convex set, the farther
    the step, the farther its projection.
    """
    low, high = torch.full_like(length, -20.0), torch.full_like(length, 10.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        short = (along(middle.exp()) - own).norm(dim=-1, keepdim=True) < length
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    return high.exp()
