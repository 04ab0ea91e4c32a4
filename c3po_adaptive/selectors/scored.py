"""Selectors that score every layer: how scores become a selection is the same for all of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import FiniteFloat, NonNegativeInt
from torch import Tensor

from ..checks import Share
from ..errors import SettingError, ShapeError
from ..problem import Problem
from ..routing.mixing import CORE, core
from ..types import Selection
from .base import LayerSelector
from .fixed import Experts, check_experts, check_layers


@dataclass(frozen=True, kw_only=True)
class ScoredLayers(LayerSelector):
    """Layers with the highest scores, and in each its best experts; a subclass says what the scores are.

    Attributes:
        n: layers at most; None: as many as score above the threshold.
        share: of these the fewest best whose scores make up that share of the total of all layers (1: all n).
        threshold: only layers whose score is above.
        experts: per layer at most. Most scores are of the router's top ``experts`` only, so that rank ``score`` leaves
            some of these out and adds none: None opens all of a layer to it.
        expert_share: of these the fewest best whose scores make up that share of the total of the layer (1: all).
        expert_threshold: only experts whose score is above.
        rank: what orders experts: the router, or their scores.
    """

    n: NonNegativeInt | None = 5
    share: Share = 1.0
    threshold: FiniteFloat = 0.0
    experts: Experts = CORE
    expert_share: Share = 1.0
    expert_threshold: FiniteFloat = 0.0
    rank: Literal["router", "score"] = "router"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank == "router" and (self.expert_share < 1 or self.expert_threshold > 0):
            raise SettingError(
                f"Expected rank 'score' with expert_share or expert_threshold, got 'router': {self.name} would cut "
                "experts by scores that it does not rank them by."
            )

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        self._count(layers)
        check_experts(self.experts, experts)

    def core_size(self, problem: Problem) -> int:
        """How many core experts a layer has.

        Raises:
            SettingError: fewer than were asked for.
        """
        return check_experts(self.experts, problem.own.shape[-1])

    def _count(self, layers: tuple[int, ...]) -> int:
        return len(layers) if self.n is None else check_layers(self.n, layers, self.name)

    @abstractmethod
    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        """Scores of layers ``[B, L]``, and of their experts ``[B, L, E]`` (>= 0) or None if there are none."""

    def select(self, problem: Problem) -> Selection:
        self._count(problem.layers)  # before any pass
        scored = self.score(problem)
        if not isinstance(scored, tuple) or len(scored) != 2:
            raise ShapeError(
                f"Expected {self.name} to score layers (B, L) and their experts (B, L, E), or None for these, got "
                f"{type(scored).__name__}; return (scores, None)."
            )
        return self.selected(problem, *scored)

    def selected(self, problem: Problem, scores: Tensor, each: Tensor | None) -> Selection:
        """The selection by scores of layers ``[B, L]`` and of their experts ``[B, L, E]``."""
        count, experts = self._count(problem.layers), self.core_size(problem)
        if scores.shape != problem.own.shape[:2]:
            raise ShapeError(
                f"Expected {self.name} to score layers, (B, L) = {tuple(problem.own.shape[:2])}, got "
                f"{tuple(scores.shape)}; score(problem) returns one number a layer."
            )
        layers = best(scores, count, self.share, self.threshold)
        if self.rank == "router":
            mask = core(problem.ranking, experts)
        elif each is None:
            raise SettingError(f"Expected rank 'router': {self.name} has no scores of experts as it is set.")
        elif each.shape != problem.own.shape or each.isnan().any():
            got = "NaN among them" if each.shape == problem.own.shape else f"{tuple(each.shape)}"
            raise ShapeError(
                f"Expected {self.name} to score experts, (B, L, E) = {tuple(problem.own.shape)}, without NaN, got "
                f"{got}; score(problem) returns one number an expert."
            )
        else:
            mask = best(each, experts, self.expert_share, self.expert_threshold, problem.router)
        return Selection(mask & layers.unsqueeze(-1), scores)


def best(scores: Tensor, n: int, share: float, threshold: float, then: Tensor | None = None) -> Tensor:
    """``[..., N]`` bool: of the n best of ``scores [..., N]`` those above the threshold; if share < 1 the fewest whose
    positive scores make up that share of the total. Of equal scores the one with more of ``then [..., N]`` is better.
    """
    order = _order(scores, then)
    ranked = scores.gather(-1, order)
    chosen = (torch.arange(scores.shape[-1]) < n) & (ranked > threshold)
    if share < 1:
        positive = ranked.clamp_min(0)
        before = positive.cumsum(-1) - positive  # what the better ones have together
        chosen &= before < share * positive.sum(-1, keepdim=True)
    return torch.zeros_like(chosen).scatter(-1, order, chosen)


def _order(scores: Tensor, then: Tensor | None) -> Tensor:
    """``[..., N]`` places from the best to the worst."""
    if then is None:
        return scores.sort(dim=-1, descending=True, stable=True).indices
    first = then.sort(dim=-1, descending=True, stable=True).indices
    return first.gather(-1, scores.gather(-1, first).sort(dim=-1, descending=True, stable=True).indices)
