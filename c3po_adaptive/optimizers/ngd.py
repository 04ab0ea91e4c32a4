"""Neighbourhood gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..problem import Problem
from .descent import Descent


@dataclass(frozen=True)
class NGD(Descent):
    """Descend the neighbours' kernel-weighted loss with the sample's ω put into their forward passes.

    C3PO (Li, Li and Zhou 2025, arXiv 2504.07964), neighbourhood gradient descent: ω ← ω − λ ∇ L(ω), λ by cosine from
    1e-2 to 1e-5 in 10 steps. The paper does not say how ω stays a valid routing: here by projection, or as logits. Its
    loss takes the head anew in each step; here that is ``head: full``, and the default is the tangent (``types.Head``).
    That, and what else belongs to the paper's setting beside these steps, has the preset ``c3po``.
    """

    name: ClassVar[str] = "ngd"

    def optimize(self, problem: Problem) -> Tensor:
        return self.descend(problem.loss, problem)
