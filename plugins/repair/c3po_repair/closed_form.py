"""From what routers read to what each expert was worth: in every MoE layer a ridge regression, in closed form.

What an expert was worth to a reference is how much its loss falls with a unit of that expert's weight: the negative
integrated gradient, which the references of a set have anyway. Nobody says of which kind a reference is, and no expert
is known by what it was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from c3po_adaptive import LayerRouting, ModelError, RoutedModel, State, router_tensors, with_tensors

ANSWERS = 9.0
"""How much the prompt's last token and the options' count, beside every other token of a reference: the loss is read
there, and a prompt is long."""
LINEAR = 0.02
"""How far a router's scores may be from its matrix times what it reads, over their size; half precision is within."""


@dataclass(frozen=True, eq=False)
class Reads:
    """What the routers read of N references, whose tokens count one together.

    Attributes:
        products: ``[L, H, H]`` Σ x xᵀ over all tokens.
        means: ``[N, L, H]`` the mean of each reference's tokens.
    """

    products: Tensor
    means: Tensor

    def __add__(self, other: Reads) -> Reads:
        return Reads(self.products + other.products, torch.cat([self.means, other.means]))

    def without(self, other: Reads, kept: Tensor) -> Reads:
        """Without those of another, which are all but ``kept [N]`` (bool) of these."""
        return Reads(self.products - other.products, self.means[kept])

    def rows(self, worth: Tensor, penalty: float) -> Tensor:
        """``[L, E, H]`` rows whose product with what a router reads predicts ``worth [N, L, E]`` best.

        Worth counts within a reference, where the mean over experts says nothing of which to take, and beside other
        references, as what an expert is worth to all of them is for a constant change.

        Args:
            worth: of each expert to each reference, in nats per unit of weight.
            penalty: of the ridge, over the mean of the products' diagonal.
        """
        y = worth - worth.mean(-1, keepdim=True)
        y = y - y.mean(0)
        cross = torch.einsum("nlh,nle->lhe", self.means.double(), y.double())
        products = self.products.double()
        ridge = penalty * products.diagonal(dim1=1, dim2=2).mean(1)
        eye = torch.eye(products.shape[1], dtype=torch.float64)
        rows: Tensor = torch.linalg.solve(products + ridge[:, None, None] * eye, cross).transpose(1, 2)
        return rows.float()

    def spread(self, rows: Tensor) -> Tensor:
        """By how much scores of ``rows [L, E, H]`` differ over experts: their standard deviation, over all tokens and
        layers."""
        centred = rows - rows.mean(1, keepdim=True)
        squares = torch.einsum("leh,lhk,lek->le", centred, self.products, centred)
        return (squares.mean() / len(self.means)).sqrt()


def check_routers(model: RoutedModel, state: State) -> None:
    """Refuse a model that rows cannot be added to, before anything is computed for it.

    Args:
        model: to be mended.
        state: any prefilled reference.

    Raises:
        ModelError: quantized or offloaded weights, several matrices, or a router whose scores are no matrix times what
            it reads.
    """
    with_tensors(model, {})
    read(model, [state])


def read(model: RoutedModel, states: Sequence[State]) -> tuple[Reads, float]:
    """What its routers read of all tokens of prefilled references (``scope="all"``), and the FLOPs of running them.

    Args:
        model: whose routers; the states may be of another one, which differs in its routers alone.
        states: of the references.

    Raises:
        ModelError: a router whose scores are no matrix times what it reads: there is nothing to add rows to.
    """
    looking = _Looking(model, states)
    ran = model.ruled_from(states, looking)
    return Reads(looking.products, looking.means), sum(one.work.flops for one in ran)


class _Looking:
    """A rule that changes nothing."""

    def __init__(self, model: RoutedModel, states: Sequence[State]) -> None:
        self.matrices = [
            next(iter(router_tensors(model.model, site).values())).detach().float() for site in model.sites
        ]
        self.last = torch.tensor([len(state.prompt.ids) - 1 for state in states])
        layers, width = len(model.sites), self.matrices[0].shape[1]
        self.products = torch.zeros(layers, width, width)
        self.means = torch.zeros(len(states), layers, width)

    def __call__(self, routing: LayerRouting) -> None:
        real, layer = routing.real, routing.position
        read, whose = cast(Tensor, routing.inputs).detach()[real].float().cpu(), routing.sample[real]
        _check_linear(read @ self.matrices[layer].T.cpu(), routing)
        share = torch.where(routing.token[real] >= self.last[whose], ANSWERS, 1.0)
        share = share / torch.zeros(len(self.last)).index_add(0, whose, share)[whose]
        weighed = share[:, None] * read
        self.products[layer] += read.T @ weighed
        self.means[:, layer].index_add_(0, whose, weighed)


def _check_linear(product: Tensor, routing: LayerRouting) -> None:
    scores = routing.logits.detach()[routing.real].cpu()
    known = scores[0].isfinite()
    scores, product = (x[:, known] - x[:, known].mean(1, keepdim=True) for x in (scores, product))
    beside = scores - product  # a bias of each expert, in a linear router
    if (beside - beside.mean(0)).abs().mean() > LINEAR * scores.abs().mean():
        raise ModelError(
            f"Expected the router of layer {routing.site.layer} to score experts by a matrix times what it reads, but "
            f"{type(routing.site.router).__name__} does more: rows that are added to its matrix would not do what they "
            "are meant to; tune it by gradient instead (--by tuning)."
        )
