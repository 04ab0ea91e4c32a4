"""The upper bound: an optimizer's steps on the sample's own label."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from pydantic import InstanceOf
from torch import Tensor

from ..checks import as_part_says
from ..errors import SettingError
from ..problem import LabeledProblem, Problem, TrainingReferences
from .base import PathwayOptimizer, SteppingOptimizer
from .ngd import NGD


@dataclass(frozen=True)
class Oracle(PathwayOptimizer):
    """Descend the loss of the test question's own right answer by another optimizer's steps: what these could have
    reached, had they known the label; a bound of that optimizer, and not a method.

    C3PO (arXiv 2504.07964), oracle: gradient descent on ℓ(f(x, ω), y). Number, rate and rule of its steps are those of
    the optimizer that it bounds: by other steps it would bound something else, as ten times the rate goes ten times as
    far.

    Attributes:
        of: whose steps they are.
    """

    of: InstanceOf[SteppingOptimizer] = field(default_factory=NGD)
    name: ClassVar[str] = "oracle"
    needs_label: ClassVar[bool] = True
    references_needed = as_part_says("references_needed")  # a selector learns from the same others

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most optimizers
        """Where what it bounds learns by them how far to go."""
        return self.of.asks_references and self.of.needs_neighbours

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, of=self.of.prepare(training))

    def optimize(self, problem: Problem) -> Tensor:
        if not isinstance(problem, LabeledProblem):
            raise SettingError("The oracle expected questions with known answers, got a problem without labels.")
        return self.of.toward_label(problem)
