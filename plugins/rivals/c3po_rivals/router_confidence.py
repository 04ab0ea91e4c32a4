"""Layers where the router is least sure: a selector in one file.

The layers' confidence is that of "Rewiring Experts on the Fly" (arXiv 2510.14853), which re-mixes without references:
C_l = -(1/k) Σ log p over the k experts that layer l used. It is high where the router gave its own choice little. Here
it is taken at the prompt's last token, where ω acts; the method itself, which takes it over the whole context, is the
answerer ``rewiring``.

Try it: ``c3po demo --arm router-confidence``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from c3po_adaptive import LayerSelector, Problem, ScoredLayers, hookimpl


@dataclass(frozen=True, kw_only=True)
class RouterConfidence(ScoredLayers):
    """Layers whose used experts have the least router probability; needs no neighbours and no pass."""

    name: ClassVar[str] = "router-confidence"
    needs_neighbours: ClassVar[bool] = False

    def score(self, problem: Problem) -> tuple[Tensor, None]:
        surprise = -problem.router.clamp_min(1e-12).log() * problem.used
        return surprise.sum(-1) / problem.used.sum(-1).clamp_min(1), None


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [RouterConfidence]
