"""Descend the entropy of the model's own answer: a plugin in one file.

Test-time adaptation by entropy minimisation (TENT: Wang et al. 2021, "Tent: Fully Test-Time Adaptation by Entropy
Minimization", ICLR, arXiv 2006.10726) in routing space. TENT tunes normalisation layers on a stream of test batches;
here every sample has its own ω, starting from the model's routing, and nothing is kept from one sample to the next.
It needs no references, so it also moves samples without neighbours; it cannot tell a confident error from an answer.

Load it with ``default_registry().load_file("plugins/entropy_descent.py")``; its name is then ``entropy-descent``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from torch import Tensor

from c3po_adaptive import PathwayOptimizer, Problem, hookimpl
from c3po_adaptive.optimizers.descent import check_descent, descend


@dataclass(frozen=True)
class EntropyDescent(PathwayOptimizer):
    """Descend the entropy of the sample's own distribution over its choices; no references needed.

    Attributes:
        steps: how many. lr, lr_end: the ends of a cosine schedule.
    """

    steps: int = 5
    lr: float = 1e-2
    lr_end: float = 1e-5
    name: ClassVar[str] = "entropy-descent"

    def __post_init__(self) -> None:
        check_descent(self.steps, self.lr, self.lr_end, "adam", "projection", 0.0)

    def optimize(self, problem: Problem) -> Tensor:
        return descend(problem.entropy, problem, **asdict(self))


@hookimpl
def register_optimizers() -> list[type[PathwayOptimizer]]:
    return [EntropyDescent]
