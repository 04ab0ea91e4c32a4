"""The layers that a planted fault broke: an upper bound for whatever looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from c3po_adaptive import LayerSelector, Problem, Selection, SettingError


@dataclass(frozen=True)
class FaultLayers(LayerSelector):
    """Exactly the layers whose routers were changed, with all of their experts: an upper bound that is told the fault.

    A sound model has none, and is left alone.
    """

    name: ClassVar[str] = "fault-layers"
    needs_neighbours: ClassVar[bool] = False
    needs_truth: ClassVar[bool] = True

    def select(self, problem: Problem) -> Selection:
        if problem.truth is None:
            raise SettingError("fault-layers expected the truth of a planted fault, got a problem without it.")
        layers = problem.truth.broken.expand(problem.own.shape[:2])
        return Selection(layers.unsqueeze(-1).expand(problem.own.shape).clone(), layers.to(problem.own))
