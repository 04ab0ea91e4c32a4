"""Rules: what a pathway does to the routing of each row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .intercept import Change
from .mixing import dense, mass, sparse, top, with_mass


@dataclass(frozen=True, eq=False)
class PathwayRule:
    """Put ω in the place of some rows' routing, and add the change Δω = ω − ω0 to that of others.

    Rows are tokens. A layer that is not active is left to the model, bit for bit.

    Attributes:
        weights: ω ``[B, L, E]``. own: ω0 ``[B, L, E]``.
        replaced: ``[R]`` for each row, the sample whose ω replaces its routing, or -1.
        shifted: ``[R]`` for each row, the sample whose Δω is added to its routing, or -1.
        active: ``[B, L]`` bool, the layers that act.
        support: ``[B, L, E]`` bool, experts that are mixed even at weight zero, so that a gradient reaches them.
        top_k: mix only the k largest weights.
    """

    weights: Tensor
    own: Tensor
    replaced: Tensor
    shifted: Tensor
    active: Tensor
    support: Tensor | None = None
    top_k: int | None = None

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        acting = torch.cat([self.active[:, position], self.active.new_zeros(1)])  # the last one serves rows marked -1
        replaced = acting[self.replaced]
        rows = (replaced | acting[self.shifted]).nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        replaced, sample = replaced[rows, None], torch.maximum(self.replaced, self.shifted)[rows]
        omega, own = self.weights[:, position], self.own[:, position]
        routing = dense(index[rows], weights[rows], omega.shape[-1])
        new = torch.where(replaced, omega[sample], shift(routing, (omega - own)[sample]))
        if self.top_k is not None:
            new = top(new, self.top_k)
        chosen = self._experts(new.detach(), position, sample)
        return Change(None if len(rows) == len(index) else rows, chosen, new.gather(1, chosen))

    def _experts(self, new: Tensor, position: int, sample: Tensor) -> Tensor:
        """``[r, n]`` the experts to mix: those with weight, then those of the support."""
        used = new != 0
        if self.support is not None and self.top_k is None:
            used = used | self.support[:, position][sample]
        n = max(int(used.sum(1).max()), 1)
        return sparse(new + used.to(new.dtype), n)[0]


def shift(routing: Tensor, change: Tensor) -> Tensor:
    """``routing + change`` clipped at zero, each row's mass kept; rows ``[R, E]``."""
    return with_mass((routing + change).clamp_min(0), mass(routing))
