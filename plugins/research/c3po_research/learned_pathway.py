"""A change of the pathway that is a function of the question, learned from references: ``learned-pathway``.

Tried on the carved model (``docs/explanation/results.md``): four factors do as well as one (+0.0 points [−1.0, 1.0]),
and on ARC-Easy neither beats its start on references held back.

Try it: ``c3po demo --arm learned-pathway``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from c3po_adaptive import (
    GRADIENT,
    KNOWN_AND_LOSS,
    PathwayOptimizer,
    Problem,
    SettingError,
    TrainingReferences,
    allowed_experts,
    hookimpl,
    known_of,
    project,
)

from ._known import own_in, principal, reduced

FEWEST = 10
SURE = 1.64  # standard errors by which the loss of those held back has to fall
HELD = 0.2  # share of references that is held back
BATCH = 256
EVERY = 10  # steps between looks at those held back


@dataclass(frozen=True, kw_only=True)
class LearnedPathway(PathwayOptimizer):
    """Δω = Σ_k a_k(x) V_k: a few changes V of the pathway, mixed by gates a = softmax(W x + b) of the question.

    x is what the model knows of the question before it answers: the hidden state that the first adapted layer's router
    reads and the own pathway, reduced to their principal components over the references, and beside them how many
    choices there are and how sure it is of them.

    V, W and b are trained on softplus(ℓ_i + ⟨g_i, Δω_i⟩), ℓ_i and g_i being the kept loss and gradient of each
    reference: on its tail as a plane around its own pathway, with Δω_i as far as its ω_i allows. Learning takes no pass
    beyond what is kept, answering none. A fifth of the references is held back: training stops where their loss is
    lowest, and what does not lower it, by 1.64 standard errors, leaves every question alone. All layers and experts are
    learned for; what a selector leaves out is cut from that.

    References that are asked in the same run teach nothing.

    Attributes:
        factors: how many changes; with one it is a constant.
        dimensions: principal components of state and pathway.
        steps: of Adam, over batches of 256 references.
        lr: its learning rate.
        decay: weight of ‖V‖² in the loss.
        seed: of batches, what is held back, and where training starts.
    """

    factors: PositiveInt = 4
    dimensions: PositiveInt = 32
    steps: NonNegativeInt = 200
    lr: PositiveFloat = 0.03
    decay: NonNegativeFloat = 0.003
    seed: NonNegativeInt = 0
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "learned-pathway"
    one_for_all: ClassVar[str] = ""  # its steps are of training
    needs_neighbours: ClassVar[bool] = False

    @property
    def references_needed(self) -> int:
        return FEWEST  # at least; it takes all there are

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, learned=training.once(self, lambda: self._fit(training)))

    def optimize(self, problem: Problem) -> Tensor:
        if self.steps == 0:
            return problem.own
        if self.learned is None:
            raise SettingError(f"{self.name} expected references to learn from; use it through Optimizer or a run.")
        change = _change(self.learned, reduced(self.learned, known_of(problem)))
        allowed = allowed_experts(problem)
        moved = project(problem.own + change, allowed, problem.own)
        return torch.where(change.any(-1, keepdim=True), moved, problem.own)

    def _fit(self, training: TrainingReferences) -> dict[str, Tensor]:
        seen, slope = (training.of_references(artifact) for artifact in (KNOWN_AND_LOSS, GRADIENT))
        raw, loss = seen[:, :-1], seen[:, -1]
        own = own_in(raw, slope.shape[1:])
        if len(raw) < FEWEST:
            raise SettingError(f"{self.name} expected {FEWEST} references to learn from, got {len(raw)}; give more.")
        drawn = torch.Generator().manual_seed(self.seed)
        scaling = principal(raw, self.dimensions)
        x = reduced(scaling, raw)
        order = torch.randperm(len(x), generator=drawn)
        held, taught = order.tensor_split([max(1, round(HELD * len(x)))])

        def lost(parts: Mapping[str, Tensor], rows: Tensor) -> Tensor:
            change = project(own[rows] + _change(parts, x[rows]), torch.ones_like(own[rows]) > 0, own[rows])
            return F.softplus(loss[rows] + (slope[rows] * (change - own[rows])).sum((1, 2)))

        parts = self._start(x.shape[1], slope.shape[1:], drawn)
        before = F.softplus(loss[held])
        kept, best = _none(parts), before
        optimizer = torch.optim.Adam(parts.values(), lr=self.lr)
        for step in range(1, self.steps + 1):
            rows = taught[torch.randint(len(taught), (min(BATCH, len(taught)),), generator=drawn)]
            optimizer.zero_grad()
            with torch.enable_grad():
                (lost(parts, rows).mean() + self.decay * parts["changes"].square().sum()).backward()
            optimizer.step()
            if step % EVERY == 0 or step == self.steps:
                with torch.no_grad():
                    now = lost(parts, held)
                if now.mean() < best.mean():
                    kept, best = {name: part.detach().clone() for name, part in parts.items()}, now
        fall = before - best
        sure = fall.mean() > SURE * fall.std() / len(fall) ** 0.5
        return scaling | (kept if sure else _none(parts))

    def _start(self, dimensions: int, size: tuple[int, ...], drawn: torch.Generator) -> dict[str, Tensor]:
        """Small changes, so that factors part from each other, and gates that hardly prefer one."""
        changes = 0.01 * torch.randn(self.factors, *size, generator=drawn)
        gates = 0.5 * torch.randn(dimensions, self.factors, generator=drawn) / dimensions**0.5
        start = {"changes": changes, "gates": gates, "offset": torch.zeros(self.factors)}
        return {name: part.requires_grad_() for name, part in start.items()}


def gates(learned: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``[N, K]`` how much of each factor questions take, from ``x [N, D]``, rows summing to one."""
    return (x @ learned["gates"] + learned["offset"]).softmax(-1)


def _change(learned: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``[N, L, E]`` on the tangent: what is common to all experts of a layer would be projected off."""
    change = torch.einsum("nk,kle->nle", gates(learned, x), learned["changes"])
    return change - change.mean(-1, keepdim=True)


def _none(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """No change at all."""
    return {name: torch.zeros_like(part) for name, part in parts.items()}


def _mass(weights: Tensor) -> Tensor:
    """``[…, 1]`` the sum of a layer's weights, which re-mixing keeps."""
    return weights.sum(-1, keepdim=True)


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [LearnedPathway]
