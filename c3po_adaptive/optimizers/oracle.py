"""The upper bound: descent on the sample's own label."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import SettingError
from ..problem import LabelledProblem, Problem
from .base import PathwayOptimizer
from .descent import Parametrisation, Step, check_descent, descend


@dataclass(frozen=True)
class Oracle(PathwayOptimizer):
    """Descend the loss of the test question's own right answer: what any choice of ω could reach, not a method.

    C3PO (arXiv 2504.07964), oracle: gradient descent on ℓ(f(x, ω), y).
    """

    steps: int = 10
    lr: float = 1e-2
    lr_end: float = 1e-5
    step: Step = "adam"
    parametrisation: Parametrisation = "projection"
    tolerance: float = 0.0
    name: ClassVar[str] = "oracle"
    needs_neighbours: ClassVar[bool] = False
    needs_label: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_descent(**asdict(self))

    def optimize(self, problem: Problem) -> Tensor:
        if not isinstance(problem, LabelledProblem):
            raise SettingError("The oracle expected questions with known answers, got a problem without labels.")
        return descend(problem.label_loss, problem, **asdict(self))
