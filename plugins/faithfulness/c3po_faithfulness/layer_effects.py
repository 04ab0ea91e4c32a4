"""What every layer does for a question: single-layer effects, and those of leaving a layer out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c3po_adaptive import LabeledProblem, PathwayOptimizer, bar

from .single_layer import remixed_in

WHOSE = ("own", "neighbours")
TRUTHS = tuple(f"{how}, {whose}" for whose in WHOSE for how in ("alone", "without"))
"""Single-layer effects: by how much a loss falls when one layer is re-mixed, or rises when one is left out of all; the
loss of the question's own right answer, or of its neighbours'."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Of B questions.

    Attributes:
        effects: ``[B, L]`` for each of ``TRUTHS`` that was looked at; positive where a layer helps.
        everywhere: ``[B, L, E]`` ω with every layer re-mixed.
        together: ``[B]`` by how much the own loss falls with that.
    """

    effects: dict[str, Tensor]
    everywhere: Tensor
    together: Tensor


def truth(problem: LabeledProblem, optimizer: PathwayOptimizer, experts: int, whose: Sequence[str] = WHOSE) -> Truth:
    """Re-mix once with every layer, once with each layer only, once without each: 2 L + 1 times."""

    def losses(weights: Tensor) -> list[Tensor]:
        with torch.no_grad():
            each = {"own": problem.label_loss, "neighbours": problem.loss}
            return [each[name](weights) for name in whose]

    def remixed(rows: Tensor) -> Tensor:
        return remixed_in(rows, problem, optimizer, experts)

    count = len(problem.layers)
    each = torch.eye(count, dtype=torch.bool)
    ways = [*each, *~each]
    everywhere = remixed(torch.ones(count, dtype=torch.bool))
    before, together = losses(problem.own), losses(everywhere)
    found = [
        losses(remixed(rows)) for rows in bar(ways, f"{len(problem.own)} questions: each layer alone, and left out")
    ]
    alone, without = found[:count], found[count:]
    effects = {}
    for i, name in enumerate(whose):
        effects[f"alone, {name}"] = torch.stack([before[i] - after[i] for after in alone], 1)
        effects[f"without, {name}"] = torch.stack([after[i] - together[i] for after in without], 1)
    return Truth(effects, everywhere, before[0] - together[0])
