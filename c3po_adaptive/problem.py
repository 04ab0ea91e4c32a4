"""What a selector or an optimizer may look at: a batch of samples, their neighbours, and a differentiable loss.

A ``Problem`` never holds a test label. The oracle asks for ``LabelledProblem`` by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .types import Neighbours, Selection

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Loss(Protocol):
    """One loss a sample, differentiable in the pathways."""

    def __call__(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        """``[B]`` of ``weights [B, L, E]``.

        Args:
            running: ``[B]`` bool, samples that are computed; those that stopped cost nothing, and their loss is that of
                no pathway in particular. None: all.
        """


@dataclass(frozen=True, eq=False)
class Problem:
    """B samples to be re-mixed together.

    Attributes:
        own: ``[B, L, E]`` the model's own pathway ω0 of each sample.
        router: ``[B, L, E]`` how much the router makes of each expert, rows summing to one.
        layers: decoder layer index of each of the L rows.
        neighbours: retrieved successful references with their kernel weights.
        neighbour_pathways: ``[B, K, L, E]`` the references' own pathways (zeros where padded).
        reference_pathways: ``[M, L, E]`` of all successful references, for search in pathway space.
        loss: the kernel-weighted loss of the neighbours when the sample's ω is put into
            their forward passes (C3PO, eq. of NGD); zero for a sample without neighbours.
        entropy: the entropy of the sample's own distribution over choices.
        neighbour_gradients: ``-> [B, K, L, E]``, of each neighbour's own loss at its own pathway (zeros where padded);
            computed once a reference.
        neighbour_changes: ``Descent -> [B, K, L, E]``, how such a descent of each neighbour's own loss changes its own
            pathway (zeros where padded); computed once a reference.
        generators: one a sample, the only source of randomness: what is drawn does not depend on the batch.
        selection: what may be re-mixed; None while it is being chosen.
        excluded: for each sample, rows of ``reference_pathways`` that it must not see (near-duplicates, or itself);
            None for an optimizer that does not say ``searches_pathways``, which must not look at those pathways.
    """

    own: Tensor
    router: Tensor
    layers: tuple[int, ...]
    neighbours: Neighbours
    neighbour_pathways: Tensor
    reference_pathways: Tensor
    loss: Loss
    entropy: Loss
    neighbour_gradients: Callable[[], Tensor]
    neighbour_changes: Callable[[Any], Tensor]
    generators: tuple[Generator, ...]
    selection: Selection | None = None
    excluded: tuple[frozenset[int], ...] | None = ()

    @property
    def ranking(self) -> Tensor:
        """``[B, L, E]`` ranks the core experts: those that the model uses first, then the router's order.

        The two differ where a bias or a group limit has its say in the choice (DeepSeek-V3).
        """
        return self.router + (self.own > 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledProblem(Problem):
    """A problem that also knows the test label, for the oracle and for upper bounds, never for a method.

    Attributes:
        label_loss: the loss of each sample's own right answer.
    """

    label_loss: Loss
