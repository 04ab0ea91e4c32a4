"""The layer selector role: which layers and experts are re-mixed, per sample; perhaps none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from ..checks import Checked
from ..problem import Problem, TrainingReferences
from ..types import Selection


class LayerSelector(Checked, ABC):
    """Subclasses are frozen dataclasses with a ``name``.

    Attributes:
        needs_neighbours: False for a selector that never looks at references; then none are retrieved for it.
        needs_label: True only for upper bounds: such a selector gets a ``LabeledProblem``.
        needs_truth: likewise; such a selector sees what a planted fault did (``Problem.truth``).
        varies: what it leaves to chance, in words, where others choose or learn; "": nothing. It is a control by that.
    """

    name: ClassVar[str]
    needs_neighbours: ClassVar[bool] = True
    needs_label: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = False
    varies: ClassVar[str] = ""

    @abstractmethod
    def select(self, problem: Problem) -> Selection:
        """Choose layers and experts of each sample. A sample with an empty mask is left alone."""

    def fits(self, layers: tuple[int, ...], experts: int) -> None:  # most have nothing to refuse
        """Refuse a model that has too few for it: asked before a run begins.

        Args:
            layers: decoder layers that are MoE layers.
            experts: how many there are in each.

        Raises:
            SettingError: with what the model has.
        """

    @property
    def references_needed(self) -> int:
        """How many references ``prepare`` asks for."""
        return 0

    def prepare(self, training: TrainingReferences) -> Self:
        """This selector after it learned from references, which it gets once; most have nothing to learn.

        What it learned is a field with ``repr=False``.
        """
        return self
