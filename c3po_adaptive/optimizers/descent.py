"""Gradient descent on routing weights, shared by NGD, the oracle and plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ..checks import check_number
from ..problem import LabeledProblem, Loss, Problem
from ..routing.mixing import mass, with_mass
from ._simplex import allowed_experts, has_neighbours, project, slope
from .base import SteppingOptimizer

Step = Literal["adam", "sgd"]
Parametrization = Literal["projection", "logits"]
FLOOR = 1e-3  # share of a layer's mass that an unused expert's logit starts from


class Coordinates(Protocol):
    """How weights are written as free numbers."""

    free: Tensor

    def weights(self) -> Tensor: ...

    def slope(self, gradient: Tensor) -> Tensor: ...

    def settle(self) -> None: ...


class Projected:
    """The weights themselves; after each step the nearest valid ones."""

    def __init__(self, own: Tensor, allowed: Tensor) -> None:
        self.own, self.allowed = own, allowed
        self.free = own.clone().requires_grad_()

    def weights(self) -> Tensor:
        return self.free

    def slope(self, gradient: Tensor) -> Tensor:
        return slope(gradient, self.free.detach(), self.allowed)

    @torch.no_grad()
    def settle(self) -> None:
        self.free.copy_(project(self.free, self.allowed, self.own))


class Logits:
    """ω = ω0 + m (softmax(z) − softmax(z0)): any z is valid, and z0 is ω0 exactly although most of ω0 is zero."""

    def __init__(self, own: Tensor, allowed: Tensor) -> None:
        self.own, self.allowed, self.total = own, allowed, mass(own * allowed)
        self.start = (own / self.total.clamp_min(torch.finfo(own.dtype).tiny) + FLOOR).log()
        self.free = self.start.clone().requires_grad_()

    def weights(self) -> Tensor:
        moved = (self.own + self.total * (self._share(self.free) - self._share(self.start))).clamp_min(0)
        return torch.where(self.allowed, with_mass(moved * self.allowed, self.total), self.own)

    def slope(self, gradient: Tensor) -> Tensor:
        return gradient * self.allowed

    def _share(self, z: Tensor) -> Tensor:
        return z.masked_fill(~self.allowed, -torch.inf).softmax(-1).nan_to_num(0.0)

    def settle(self) -> None:
        return None


@dataclass(frozen=True)
class Descent(SteppingOptimizer):
    """Gradient descent on routing weights; a subclass says on which loss.

    Attributes:
        steps: how many.
        lr: the first learning rate of a cosine schedule.
        lr_end: the last.
        step: Adam, or plain gradient steps.
        parametrization: how weights stay valid: by projection, or as logits.
        tolerance: a sample stops, and costs no more, when a step lowers its loss by less than this share of it; 0 never
            stops early.
    """

    steps: Annotated[int, Field(ge=0, description="the paper uses 10")] = 10
    lr: Annotated[float, Field(ge=0, description="the paper uses 1e-2")] = 1e-2
    lr_end: NonNegativeFloat = 1e-5
    step: Step = "adam"
    parametrization: Parametrization = "projection"
    tolerance: Annotated[float, Field(ge=0, le=1, description="0 never stops early")] = 0.0
    one_for_all: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "lr_end", at_least=0, at_most=self.lr, hint="the paper uses 1e-5, it is at most lr")

    def toward_label(self, problem: LabeledProblem) -> Tensor:
        return self.descend_from(problem.own, problem.label_loss, allowed_experts(problem))  # whatever is near

    def descend(self, loss: Loss, problem: Problem, eligible: Tensor | None = None) -> Tensor:
        """Descend ``loss`` from ω0 within the selection; returns weights ``[B, L, E]``.

        Args:
            loss: what is lowered, sample by sample.
            problem: the samples, with a selection.
            eligible: ``[B]`` samples that may move at all; default those with neighbours, or all of an optimizer that
                needs none.
        """
        movable = allowed_experts(problem)
        if eligible is None and self.needs_neighbours:
            eligible = has_neighbours(problem)
        return self.descend_from(problem.own, loss, movable if eligible is None else movable & eligible[:, None, None])

    def descend_from(self, own: Tensor, loss: Loss, movable: Tensor) -> Tensor:
        """The same from ``own [B, L, E]``, where the experts ``movable [B, L, E]`` (bool) may change."""
        if self.steps == 0 or not movable.any():
            return own
        coordinates: Coordinates = (Projected if self.parametrization == "projection" else Logits)(own, movable)
        optimizer = (torch.optim.Adam if self.step == "adam" else torch.optim.SGD)([coordinates.free], lr=self.lr)
        # the last of the steps has lr_end
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.steps - 1), eta_min=self.lr_end)
        running, best = movable.any(-1).any(-1), torch.full_like(own[:, 0, 0], torch.inf)
        found = own.clone()  # where the loss was lowest, of samples that stopped
        for _ in range(self.steps):
            values = loss(coordinates.weights(), running) if self.tolerance else loss(coordinates.weights())
            if self.tolerance:
                better = values.detach() < best
                found = torch.where((better & running)[:, None, None], coordinates.weights().detach(), found)
                running = running & ~(values.detach() > best - self.tolerance * best.abs())
                best = torch.minimum(best, values.detach())
            if not running.any():
                break
            (gradient,) = torch.autograd.grad(values.sum(), coordinates.free)
            before = coordinates.free.detach().clone()
            # an expert outside the selection neither moves nor feeds Adam's moments
            coordinates.free.grad = coordinates.slope(gradient)
            optimizer.step()
            schedule.step()
            coordinates.settle()
            still = (movable.any(-1) & running[:, None]).unsqueeze(-1)
            with torch.no_grad():
                coordinates.free.copy_(torch.where(still, coordinates.free, before))
        reached = torch.where(running[:, None, None], coordinates.weights().detach(), found)
        return torch.where(movable.any(-1, keepdim=True), reached, own)
