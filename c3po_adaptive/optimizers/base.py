"""The pathway optimizer role: from ω0 to ω, within a selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from ..checks import Checked
from ..problem import LabeledProblem, Problem, TrainingReferences
from ..types import Changes

if TYPE_CHECKING:
    from torch import Tensor


class PathwayOptimizer(Checked, ABC):
    """Subclasses are frozen dataclasses with a ``name``.

    Attributes:
        needs_label: True only for upper bounds: such an optimizer gets a ``LabeledProblem``.
        needs_truth: likewise; such an optimizer sees what a planted fault did (``Problem.truth``).
        needs_neighbours: False for an optimizer that never looks at references; then none are retrieved for it.
        varies: what it leaves to chance, in words, where others choose or learn; "": nothing. It is a control by that.
        changes: what becomes of pathways.
        one_for_all: name of the optimizer that takes its steps once, along the mean of what all references teach, whose
            ``changes`` are "same" and whose parameters are called alike; "": there is none, or what it calls
            ``steps`` is nothing that could be taken so; None: it does not say.
        searches_pathways: True for one that takes ``reference_pathways`` and finds its own neighbours among them; then
            those that were retrieved are not shown as its neighbours.
    """

    name: ClassVar[str]
    needs_neighbours: ClassVar[bool] = True
    needs_label: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = False
    searches_pathways: ClassVar[bool] = False
    varies: ClassVar[str] = ""
    changes: ClassVar[Changes] = "each"
    one_for_all: ClassVar[str | None] = None

    @abstractmethod
    def optimize(self, problem: Problem) -> Tensor:
        """New weights ``[B, L, E]``.

        Equal to ``problem.own`` outside ``problem.selection.mask``'s layers and for samples without neighbours; every
        layer keeps its mass (the sum of its weights); inside a selected layer, only selected experts and those the
        model used itself may be non-zero; zero steps return ``problem.own`` bit for bit.
        """

    @property
    def references_needed(self) -> int:
        """How many references ``prepare`` asks for; whatever selects layers for it learns from others."""
        return 0

    @property
    def asks_references(self) -> bool:
        """Whether ``prepare`` asks some as questions are asked: with neighbours, where it needs them for those."""
        return self.references_needed > 0

    def prepare(self, training: TrainingReferences) -> Self:
        """This optimizer after it learned from references, which it gets once; most have nothing to learn.

        What it learned is a field with ``repr=False``. Of ``training.optimizer``, which is itself, it has no use.
        """
        return self


class SteppingOptimizer(PathwayOptimizer):
    """An optimizer that takes steps along a loss: the same steps can be taken along another."""

    @abstractmethod
    def toward_label(self, problem: LabeledProblem) -> Tensor:
        """``[B, L, E]`` weights after the steps along the loss of each sample's own right answer."""


def takes_steps(optimizer: PathwayOptimizer) -> bool:
    """Whether it takes any: along a loss, or a number of ``steps``."""
    named = {field.name for field in fields(cast(Any, optimizer))}
    return isinstance(optimizer, SteppingOptimizer) or "steps" in named


def one_for_all_of(optimizer: PathwayOptimizer) -> str | None:
    """What its class says as ``one_for_all``; "" as well where it says nothing and takes no steps."""
    unsaid = optimizer.one_for_all is None
    return "" if unsaid and not takes_steps(optimizer) else optimizer.one_for_all
