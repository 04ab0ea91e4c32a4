"""The upper bound: descent on the sample's own label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import SettingError
from ..problem import LabeledProblem, Problem
from .descent import Descent


@dataclass(frozen=True)
class Oracle(Descent):
    """Descend the loss of the test question's own right answer: what any choice of ω could reach, not a method.

    C3PO (arXiv 2504.07964), oracle: gradient descent on ℓ(f(x, ω), y). Its rate is ten times NGD's: a bound has to go
    as far as it can, and ten steps of 1e-2 move a weight by 0.05 at most: 40 % of an eighth.
    """

    lr: float = 0.1
    name: ClassVar[str] = "oracle"
    needs_label: ClassVar[bool] = True
    needs_neighbours: ClassVar[bool] = False

    def optimize(self, problem: Problem) -> Tensor:
        if not isinstance(problem, LabeledProblem):
            raise SettingError("The oracle expected questions with known answers, got a problem without labels.")
        return self.descend(problem.label_loss, problem)
