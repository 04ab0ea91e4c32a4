"""Rules: what a pathway does to the routing of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from .._printed import in_brief
from .gates import Routers
from .intercept import Interceptor, intercepted
from .mixing import dense, mass, sparse, top, with_mass
from .sites import Site
from .styles import Change


@dataclass(frozen=True, eq=False)
class PathwayRule:
    """Put ω in the place of some rows' routing, and add the change Δω = ω − ω0 to that of others.

    Rows are tokens. A layer that is not active is left to the model, bit for bit. Pathways are small and stay on the
    CPU; what a layer needs of them goes to the device of that layer.

    Attributes:
        weights: ω ``[B, L, E]``.
        own: ω0 ``[B, L, E]``.
        replaced: ``[R]`` for each row, the sample whose ω replaces its routing, or -1.
        shifted: ``[R]`` for each row, the sample whose Δω is added to its routing, or -1.
        active: ``[B, L]`` bool, the layers that act.
        support: ``[B, L, E]`` bool, experts that are mixed even at weight zero, so that a gradient reaches them.
        top_k: mix only the k largest weights.
        routers: see ``following``: ω is a router's distribution, of which each row's own gate makes its weights; None:
            ω is the weights.
        core: see ``Gate.weights``.
    """

    weights: Tensor
    own: Tensor
    replaced: Tensor
    shifted: Tensor
    active: Tensor
    support: Tensor | None = None
    top_k: int | None = None
    routers: Routers | None = None
    core: bool = False
    __repr__ = in_brief

    def __call__(self, position: int, index: Tensor, weights: Tensor) -> Change | None:
        call = None if self.routers is None else self.routers.take(position)
        # [B + 1], of which the last serves rows marked -1; then [R] which rows take ω itself.
        acting = torch.cat([self.active[:, position], self.active.new_zeros(1)])
        replaced = acting[self.replaced]
        rows = (replaced | acting[self.shifted]).nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        # r rows that change, each of one sample: [r, 1] and [r]. A row is of one kind, the other mark is -1.
        replaced, sample = replaced[rows, None], torch.maximum(self.replaced, self.shifted)[rows]
        omega, own = self.weights[:, position], self.own[:, position]
        support = None if self.support is None else self.support[:, position][sample]
        place = weights.device
        rows, replaced, omega, change = (t.to(place) for t in (rows, replaced, omega[sample], (omega - own)[sample]))
        support = None if support is None else support.to(place)
        # [r, E]: what the router made of these rows, and what it becomes.
        if call is None:
            routing = dense(index[rows], weights[rows], omega.shape[-1])
            new = torch.where(replaced, omega, shift(routing, change))
        else:
            routing, gate = call.gate(index[rows], weights[rows], rows)
            new = gate.weights(torch.where(replaced, omega, shift(routing, change)), support, core=self.core)
        if self.top_k is not None:
            new = top(new, self.top_k)
        used = new.detach() != 0
        if support is not None:
            used = used | support
        # Back to the experts' own form [r, n], n experts of the row that uses most: weights keep their gradient, and
        # experts that are mixed at weight zero are among them, as one is added where they are picked.
        counts = used.sum(1).clamp_min(1)
        # Two at least: longcat_flash's experts cannot take one column (transformers 5.24).
        chosen = sparse(new + used.to(new.dtype), max(2, int(counts.max())))[0]
        # What fills up short rows is the first expert at weight zero: any other could be a choice that is no expert.
        real = used.gather(1, chosen)
        return Change(None if len(rows) == len(index) else rows, chosen * real, new.gather(1, chosen) * real, counts)


@contextmanager
def following(sites: Sequence[Site], rule: Interceptor, routers: Routers | None) -> Iterator[None]:
    """Inside the block routing follows a rule, which asks these ``routers``, if any, what they made of its rows."""
    with nullcontext() if routers is None else routers.seen(), intercepted(sites, rule):
        yield


def shift(routing: Tensor, change: Tensor) -> Tensor:
    """``routing + change`` clipped at zero, each row's mass preserved; rows ``[R, E]``.

    The clip is a kink where a row has no weight, and so is ω0 of every loss that answer tokens have a part in: there
    the gradient is the slope of raising an expert's weight (``clamp_min`` passes it at zero), and lowering it changes
    nothing on these rows. Central differences find the mean of the two.
    """
    return with_mass((routing + change).clamp_min(0), mass(routing))
