"""Descend the entropy of the model's own answer: a plugin in one file.

Test-time adaptation by entropy minimization (TENT: Wang et al. 2021, "Tent: Fully Test-Time Adaptation by Entropy
Minimization", ICLR, arXiv 2006.10726) in routing space. TENT tunes normalization layers on a stream of test batches;
here every sample has its own ω, starting from the model's routing, and nothing is kept from one sample to the next.
It needs no references, so it also moves samples without neighbours; it cannot tell a confident error from an answer.

Try it: ``c3po demo --arm entropy-descent``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from c3po_adaptive import Descent, PathwayOptimizer, Problem, hookimpl


@dataclass(frozen=True)
class EntropyDescent(Descent):
    """Descend the entropy of the sample's own distribution over its choices; no references needed."""

    steps: int = 5
    name: ClassVar[str] = "entropy-descent"
    needs_neighbours: ClassVar[bool] = False

    def optimize(self, problem: Problem) -> Tensor:
        return self.descend(problem.entropy, problem)


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [EntropyDescent]
