"""How far neighbours' gradients agree: an unbiased measure of what they have in common, and of what noise alone would.

The length of a mean gradient cannot tell agreement from noise: every neighbour's noise adds to it. Products of
*different* neighbours' gradients can, ⟨g_i, g_j⟩ with i ≠ j, which are zero on average where neighbours agree on
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

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
