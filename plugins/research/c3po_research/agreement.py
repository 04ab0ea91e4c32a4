"""Layers and steps by what neighbours agree on beyond noise: the selector ``cross-fitted``, the optimizer ``shrunken``.

The length of a mean gradient cannot tell agreement from noise: every neighbour's noise adds to it. Products of
*different* neighbours' gradients can, ⟨g_i, g_j⟩ with i ≠ j, which are zero on average where neighbours agree on
nothing: an unbiased measure of what they have in common. Neither strategy takes a pass per question.

Tried in ``studies/faithfulness`` and before, on the carved model, and found to gain nothing: neighbours agree on some
layer in one of eight questions, and that the predicted benefit ranks these by what they gain is not shown.

Try it: ``c3po demo --arm cross-fitted --arm shrunken``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from c3po_adaptive import (
    GRADIENT,
    LayerSelector,
    PathwayOptimizer,
    Problem,
    ScoredLayers,
    Selection,
    SettingError,
    allowed_experts,
    core,
    hookimpl,
    project,
)

TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Agreement:
    """Of the weighted gradients of K neighbours, on the tangent of the simplex over the experts that may move.

    Attributes:
        terms: ``[B, K, L, E]`` the gradients on the tangent, times weights that sum to one.
    """

    terms: Tensor

    @classmethod
    def of(cls, gradients: Tensor, weight: Tensor, able: Tensor) -> Self:
        """Agreement of ``gradients [B, K, L, E]`` with ``weight [B, K]`` over the experts ``able [B, L, E]`` (bool).

        The tangent is that of directions that keep a layer's mass: less the mean over the experts that may move.
        """
        able = able[:, None].to(gradients.dtype)
        mean = (gradients * able).sum(-1, keepdim=True) / able.sum(-1, keepdim=True).clamp_min(1)
        share = weight / weight.sum(-1, keepdim=True).clamp_min(TINY)
        return cls(share[:, :, None, None] * (gradients - mean) * able)

    @property
    def mean(self) -> Tensor:
        """``[B, L, E]`` the weighted mean gradient."""
        return self.terms.sum(1)

    @property
    def noise(self) -> Tensor:
        """``[B, L, E]`` what noise adds to the square of each coordinate of the mean, on average: Σ w_i² g_i²."""
        return self.terms.square().sum(1)

    @property
    def common(self) -> Tensor:
        """``[B, L]`` Σ_{i≠j} w_i w_j ⟨g_i, g_j⟩: unbiased for the squared length of the true mean gradient, times
        1 − Σ w_i²; zero on average under pure noise.

        It is also what a step along the mean gradient of the others would lower a neighbour's loss by, to first order,
        on average over the neighbours.
        """
        return self.mean.square().sum(-1) - self.noise.sum(-1)

    @property
    def benefit(self) -> Tensor:
        """``[B, L]`` by how much a step of length one, learned from the others, lowers a neighbour's loss to first
        order, on weighted average; negative where they contradict each other.
        """
        mean, own = self.mean[:, None], self.terms.square().sum(-1)
        along = (self.terms * mean).sum(-1)
        length = (mean.square().sum(-1) - 2 * along + own).clamp_min(0).sqrt()  # of the mean of the others
        found: Tensor = ((along - own) / length.clamp_min(TINY)).sum(1)
        return found

    @property
    def error(self) -> Tensor:
        """``[B, L]`` standard error of ``common`` where neighbours agree on nothing: the root of
        2 Σ_{i≠j} (w_i w_j ⟨g_i, g_j⟩)².
        """
        each = self.terms.transpose(1, 2).double()  # B L K E
        small = each.transpose(-1, -2) @ each if each.shape[2] > each.shape[3] else each @ each.transpose(-1, -2)
        alone = each.square().sum(-1).square().sum(-1)
        return (2 * (small.square().sum((-1, -2)) - alone).clamp_min(0)).sqrt().to(self.terms.dtype)

    @property
    def z(self) -> Tensor:
        """``[B, L]`` ``common`` in its standard errors; zero where there are fewer than two neighbours."""
        return self.common / self.error.clamp_min(TINY)

    @property
    def each(self) -> Tensor:
        """``[B, L, E]`` likewise of each expert alone: what neighbours agree on of it, in its standard errors."""
        squares = self.terms.double().square()
        noise, common = squares.sum(1), self.terms.double().sum(1).square()
        error = (2 * (noise.square() - squares.square().sum(1)).clamp_min(0)).sqrt()
        return ((common - noise) / error.clamp_min(TINY)).to(self.terms.dtype)

    def under_noise(self, signs: Tensor) -> Tensor:
        """``[F, B, L]`` the same z with the neighbours' gradients turned round by ``signs [F, K]`` (±1).

        Where they agree on nothing, and are as likely one way as the other, each of these is as likely as ``z``.
        """
        turned = torch.einsum("fk,bkle->fble", signs.to(self.terms.dtype), self.terms)
        return (turned.square().sum(-1) - self.noise.sum(-1)) / self.error.clamp_min(TINY)


def noise_level(agreement: Agreement, level: float, flips: int) -> Tensor:
    """``[B]`` the z that noise reaches in the best of all layers with probability ``level``: a layer above it is taken
    in vain at that rate, however many layers are looked at (max-T, Westfall and Young 1993; here by flipping signs).

    Args:
        agreement: of B samples.
        level: of the error, family-wise.
        flips: draws; the quantile is that of the flips and of the sample's own z, so that the level holds exactly.
    """
    drawn = torch.Generator().manual_seed(flips)
    signs = 2.0 * torch.randint(2, (flips, agreement.terms.shape[1]), generator=drawn) - 1
    best = agreement.under_noise(signs).amax(-1)
    rank = max(1, int(level * (flips + 1)))  # as many of flips and the sample itself may reach it
    return best.sort(0, descending=True).values[rank - 1]


@dataclass(frozen=True, kw_only=True)
class CrossFitted(ScoredLayers):
    """Layers in which the neighbours' kept gradients agree by more than noise would let them: no pass per question.

    A layer's z is what a step learned from all neighbours but one would lower that one's loss by, on average, over its
    standard error (see ``Agreement``). Its score is by how much z exceeds what noise reaches in the best of all layers
    with probability ``level``; so a sample whose neighbours agree on nothing is left alone but for that share.

    Experts' scores are likewise: of each, by how many standard errors the neighbours agree on it. What speaks for
    re-mixing a sample (``Selection.strength``) is the benefit that is predicted of it: by how much a step of length one
    in each chosen layer, learned from the other neighbours, would lower a neighbour's loss on average, in its units.
    Of chosen layers it is flattering, as they were chosen by it; and it counts steps that would take weight from
    experts that have none.

    Five neighbours can agree by chance in more than one of twenty cases, whatever their gradients: with fewer than six
    (at level 0.05) every sample is left alone. Take thirty, or a hundred.

    Attributes:
        level: probability that any layer is taken where neighbours agree on nothing.
        flips: draws of noise.
    """

    n: int | None = None
    experts: int | None = None
    level: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    flips: Annotated[int, Field(ge=19)] = 199
    name: ClassVar[str] = "cross-fitted"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level * (self.flips + 1) < 1:
            raise SettingError(
                f"Expected flips of at least {math.ceil(1 / self.level) - 1} for level={self.level:g}, got "
                f"{self.flips}; draw more, or allow more error."
            )

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        return self._scores(self._agreement(problem))

    def select(self, problem: Problem) -> Selection:
        agreement = self._agreement(problem)
        selection = self.selected(problem, *self._scores(agreement))
        return replace(selection, strength=(agreement.benefit * selection.layers).sum(-1), threshold=0.0)

    def _scores(self, agreement: Agreement) -> tuple[Tensor, Tensor]:
        beyond_noise = agreement.z - noise_level(agreement, self.level, self.flips)[:, None]
        return beyond_noise, agreement.each.clamp_min(0)

    def _agreement(self, problem: Problem) -> Agreement:
        able = problem.changeable(core(problem.ranking, self.core_size(problem)))
        return Agreement.of(problem.of_neighbours(GRADIENT), problem.neighbours.weight, able)


@dataclass(frozen=True)
class Shrunken(PathwayOptimizer):
    """A step along the neighbours' mean kept gradient, shorter the less they agree: no pass per question.

    Adam takes a step of one size in each coordinate, noise or not. Here each coordinate m_e of the mean gradient is
    shrunk by its own noise v_e, to (1 − v_e / m_e²)₊ m_e (positive-part James and Stein 1961), and a layer's step is

        Δω = −radius · mass · (U − sure · s)₊ / ‖m‖² · d / ‖d‖,

    with d the shrunken gradient, U what the neighbours have in common and s its standard error (``Agreement``): the
    share of the squared length that is no noise, less what it may owe to chance. A layer that neighbours agree on
    nothing in is left alone.

    Attributes:
        radius: length of the longest step, in a layer's mass (the sum of its routing weights).
        sure: standard errors that are taken off.
    """

    radius: NonNegativeFloat = 1.0
    sure: NonNegativeFloat = 1.64
    name: ClassVar[str] = "shrunken"

    def optimize(self, problem: Problem) -> Tensor:
        allowed, total = allowed_experts(problem), problem.own.sum(-1, keepdim=True)
        agreement = Agreement.of(problem.of_neighbours(GRADIENT), problem.neighbours.weight, allowed)
        step = self.radius * total * share(agreement, self.sure)[..., None] * direction(agreement)
        moved = project(problem.own - step, allowed, problem.own)
        return torch.where(step.any(-1, keepdim=True), moved, problem.own)


def share(agreement: Agreement, sure: float) -> Tensor:
    """``[B, L]`` of the squared length of the mean gradient, the share that neighbours have in common for sure."""
    common = (agreement.common - sure * agreement.error).clamp_min(0)
    return common / agreement.mean.square().sum(-1).clamp_min(TINY)


def direction(agreement: Agreement) -> Tensor:
    """``[B, L, E]`` of length one: the mean gradient, each coordinate shrunk by its own noise; zero if all is noise."""
    mean = agreement.mean
    kept = (1 - agreement.noise / mean.square().clamp_min(TINY)).clamp_min(0) * mean
    length: Tensor = kept.norm(dim=-1, keepdim=True)
    return kept / length.clamp_min(TINY)


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [CrossFitted]


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [Shrunken]
