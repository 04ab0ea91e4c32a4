"""Layers and experts per sample, by Captum's attribution of a scalar to the explicit pathway Ω."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..checks import check_number
from ..errors import SettingError
from ..problem import Problem
from ..routing.mixing import core, mass, with_mass
from ..types import Selection
from .base import LayerSelector
from .fixed import check_experts, check_layers

Method = Literal["input-x-gradient", "integrated-gradients", "feature-ablation"]
Baseline = Literal["uniform", "neighbours", "zero"]


@dataclass(frozen=True)
class Attribution(LayerSelector):
    """The layers that the neighbours' loss (or the sample's own entropy) owes most to, by Captum.

    It is attributed to Ω ``[B, L, E]``, the explicit pathway.

    A layer's score is the sum over its experts of |attribution|. The ``n`` best layers are taken, less those whose
    share of the total is below ``minimum``: with a high minimum, possibly none. Routers in a row feed each other, so
    Captum's layer methods do not apply; Ω as one explicit input does (Sundararajan et al. 2017 for integrated
    gradients).

    Attributes:
        method: Captum's algorithm. baseline: what it compares with (input × gradient has none).
        target: ``neighbours`` (needs references) or ``entropy`` (needs none).
        n: layers at most. experts: experts a layer, ranked by ``rank``: the router, or the attribution.
        minimum: least share of the total that a layer must have. steps: of integrated gradients.
        budget: tail passes (a backward pass counts two) that one selection may take at most.
    """

    method: Method = "input-x-gradient"
    baseline: Baseline = "uniform"
    target: Literal["neighbours", "entropy"] = "neighbours"
    n: int = 5
    experts: int = 20
    rank: Literal["router", "attribution"] = "router"
    minimum: float = 0.0
    steps: int = 8
    budget: int = 64
    name: ClassVar[str] = "attribution"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("method", ("input-x-gradient", "integrated-gradients", "feature-ablation")),
            ("baseline", ("uniform", "neighbours", "zero")),
            ("target", ("neighbours", "entropy")),
            ("rank", ("router", "attribution")),
        ):
            if getattr(self, field) not in allowed:
                raise SettingError(f"Expected {field} among {', '.join(allowed)}, got {getattr(self, field)!r}.")
        check_number(self, "n", at_least=0, whole=True)
        for field in ("experts", "steps", "budget"):
            check_number(self, field, at_least=1, whole=True)
        check_number(self, "minimum", at_least=0, at_most=1)
        if self.rank == "attribution" and self.method == "feature-ablation":
            raise SettingError(
                "Expected rank 'router' with feature-ablation, got 'attribution': it ablates whole layers, and says "
                "nothing of their experts."
            )

    @property
    def needs_neighbours(self) -> bool:  # type: ignore[override]  # a constant of most selectors
        return self.target == "neighbours" or self.baseline == "neighbours"

    def select(self, problem: Problem) -> Selection:
        count, experts = check_layers(self.n, problem.layers), check_experts(self.experts, problem)
        attribution = self.attribute(problem)
        scores = attribution.abs().sum(-1)
        share = scores / scores.sum(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
        layers = core(scores, count) & (share > 0) & (share >= self.minimum)
        ranking = problem.ranking if self.rank == "router" else attribution.abs() + problem.router * 1e-6
        return Selection(core(ranking, experts) & layers.unsqueeze(-1), scores)

    def attribute(self, problem: Problem) -> Tensor:
        """Attribution ``[B, L, E]`` of the target to each routing weight.

        Raises:
            SettingError: the method needs more tail passes than the budget.
        """
        from captum.attr import FeatureAblation, InputXGradient, IntegratedGradients

        self._check_budget(problem)
        target = problem.loss if self.target == "neighbours" else problem.entropy
        omega, size = problem.own.clone(), len(problem.own)

        def function(inputs: Tensor) -> Tensor:
            return torch.cat([target(part) for part in inputs.split(size)])

        if self.method == "input-x-gradient":
            result = InputXGradient(function).attribute(omega.requires_grad_())
        elif self.method == "integrated-gradients":
            result = IntegratedGradients(function).attribute(
                omega, self._baseline(problem), n_steps=self.steps, internal_batch_size=size
            )
        else:
            result = self._ablate(FeatureAblation(function), omega, problem)
        attribution: Tensor = result.detach()
        return attribution

    def _ablate(self, method: Any, omega: Tensor, problem: Problem) -> Tensor:
        """Replace one whole layer at a time by the baseline; its effect is spread over its experts evenly."""
        layers = torch.arange(omega.shape[1])[None, :, None].expand(1, *omega.shape[1:])
        effect: Tensor = method.attribute(omega, self._baseline(problem), feature_mask=layers)
        return effect / omega.shape[-1]

    def _check_budget(self, problem: Problem) -> None:
        layers = len(problem.layers)
        passes = {"input-x-gradient": 3, "integrated-gradients": 3 * self.steps, "feature-ablation": layers + 1}[
            self.method
        ]
        if passes > self.budget:
            raise SettingError(
                f"Expected at most budget={self.budget} tail passes, {self.method} takes {passes} here; raise it, "
                "or take fewer steps or input-x-gradient (3 passes)."
            )

    def _baseline(self, problem: Problem) -> Tensor:
        total = mass(problem.own)
        if self.baseline == "zero":
            return torch.zeros_like(problem.own)
        if self.baseline == "uniform":
            return with_mass(core(problem.ranking, self.experts).float(), total)
        mean = (problem.neighbours.weight[:, :, None, None] * problem.neighbour_pathways).sum(1)
        return torch.where(mass(mean) > 0, with_mass(mean, total), problem.own)
