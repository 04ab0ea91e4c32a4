"""Layers and experts per sample, by Captum's attribution of a scalar to the explicit pathway Ω."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from ..attribution.attribute import attribute, check_budget, check_use
from ..attribution.attributed import Attributed
from ..attribution.baselines import Baseline, baseline_pathway
from ..attribution.function import PathwayFunction
from ..attribution.methods import CAPTUM, METHODS, method_name
from ..attribution.weight_groups import Groups, how_many
from ..errors import SettingError
from ..problem import Problem
from ..routing.mixing import core_size
from ..types import Attributable
from .scored import ScoredLayers


@dataclass(frozen=True, kw_only=True)
class Attribution(ScoredLayers):
    """The layers that the neighbours' loss (or the sample's own entropy, or margin) owes most to, by Captum.

    A layer's score is the sum over its experts of the absolute attribution to Ω ``[B, L, E]``, the explicit pathway.

    Attributes:
        method: a name of ``attribution.METHODS``, or of Captum's class, for which ours is put. Input ×
            gradient and saliency, the cheap ones, have no baseline and no groups.
        baseline: the pathway that Ω is compared with; see ``attribution.Baseline``.
        of: the scalar f that is attributed; see ``c3po_adaptive.types.Attributable``.
        groups: which weights are taken away together; see ``attribution.Groups``.
        steps: of integrated gradients.
        draws: orders of groups (shapley-sampling); kernel-shap takes as many passes.
        budget: tail passes (a backward pass counts two) that one selection may take at most.
        seed: of what is drawn.
    """

    method: Annotated[str, Field(examples=[*METHODS, *CAPTUM])] = "input-x-gradient"
    baseline: Baseline = "uniform"
    of: Attributable = "neighbours"
    groups: Groups = "layer"
    steps: PositiveInt = 8
    draws: PositiveInt = 2
    budget: PositiveInt = 64
    seed: NonNegativeInt = 0
    name: ClassVar[str] = "attribution"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "method", method_name(self.method))  # one name, as it identifies runs
        chosen = METHODS[self.method]
        check_use(self.method, self.baseline, self.groups)
        if chosen.by_group and self.groups == "layer" and self.rank == "score":
            raise SettingError(
                f"Expected groups 'expert' with rank 'score' and {self.method}, got 'layer': it takes whole layers "
                "away, and says nothing of their experts."
            )

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        super().fits(layers, experts)
        groups = how_many(self.groups, len(layers), experts, core_size(self.experts, experts))
        check_budget(self.budget, METHODS[self.method].passes(groups, self.steps, self.draws), self.method)

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most selectors
        return self.of == "neighbours" or self.baseline == "neighbours"

    @property
    def drawn(self) -> bool:
        """Whether what it finds depends on the seed."""
        return METHODS[self.method].drawn

    def function(self, problem: Problem) -> PathwayFunction:
        """f as Captum takes it: of pathways ``[N, L, E]`` and their samples ``[N]``, ``[N]``."""
        return PathwayFunction(problem, self.of)

    def beside(self, problem: Problem) -> Tensor:
        """``[B, L, E]`` what Ω is compared with; zero where the method compares it with nothing."""
        if not METHODS[self.method].baseline:
            return torch.zeros_like(problem.own)
        return baseline_pathway(problem, self.baseline, self.core_size(problem))

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        found = self.attribute(problem)
        return found.strength, None if found.by_layer else found.values.abs()

    def attribute(self, problem: Problem, omega: Tensor | None = None) -> Attributed:
        """Attribution to each routing weight of ``omega [B, L, E]``; default ω0.

        Raises:
            SettingError: the method needs more tail passes than the budget.
        """
        return attribute(
            problem,
            self.method,
            of=self.of,
            baseline=self.baseline,
            groups=self.groups,
            experts=self.core_size(problem),
            steps=self.steps,
            draws=self.draws,
            seed=self.seed,
            budget=self.budget,
            omega=omega,
        )
