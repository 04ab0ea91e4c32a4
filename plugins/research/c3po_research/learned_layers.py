"""Layers where the question goes another way than its neighbours, and layers by predicted benefit: the selectors
``disagreement`` and ``learned``.

Tried in ``studies/faithfulness`` and before, on the carved model, and found to gain nothing: disagreement orders layers
worse than chance by what lowers the neighbours' loss (ρ −0.21), and neither is told from random layers.

Try it: ``c3po demo --arm disagreement --arm learned``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from c3po_adaptive import (
    GRADIENT,
    LabeledProblem,
    LayerSelector,
    Problem,
    ScoredLayers,
    SettingError,
    TrainingReferences,
    default_registry,
    hookimpl,
)

from ._signals import agreement, distribution, similarity, uncertainty

FEATURES = (
    "slope of the neighbours' gradients",
    "agreement of the neighbours' gradients",
    "disagreement with the neighbours' pathways",
    "entropy of the routing weights",
    "largest routing weight",
    "similarity of the neighbours",
    "entropy of the choices",
    "margin of the choices",
)


def features(problem: Problem, experts: int) -> Tensor:
    """``[B, L, F]``: those of ``FEATURES``, then one that marks the layer, for each of L."""
    layers = len(problem.layers)
    routing = distribution(problem.own)
    each = [
        *_gradients(problem, experts),
        Disagreement().score(problem)[0],
        -(routing * routing.clamp_min(1e-12).log()).sum(-1),
        routing.amax(-1),
        *(x[:, None].expand(-1, layers) for x in (similarity(problem), uncertainty(problem), ahead(problem))),
    ]
    marks = torch.eye(layers).expand(len(problem.own), -1, -1)
    return torch.cat([torch.stack(each, -1).to(marks.dtype), marks], -1)


def ahead(problem: Problem) -> Tensor:
    """``[B]`` log-likelihood by which the best choice leads the second; zero where there is one choice only."""
    if problem.own_scores.shape[1] < 2:
        return problem.own.new_zeros(len(problem.own))
    best, second = problem.own_scores.topk(2).values.unbind(1)
    return torch.where(second.isfinite(), best - second, 0 * best)


def _gradients(problem: Problem, experts: int) -> tuple[Tensor, Tensor]:
    """``[B, L]`` log of the slope of the neighbours' mean gradient, and how much of their length it keeps."""
    slope, _ = _scores_by("amortized", experts=experts).score(problem)
    weight, each = problem.neighbours.weight[:, :, None, None], problem.of_neighbours(GRADIENT)
    together = (weight * each).sum(1)
    apart = (weight.squeeze(-1) * each.norm(dim=-1)).sum(1)
    return slope.clamp_min(1e-9).log(), together.norm(dim=-1) / apart.clamp_min(1e-12)


def _scores_by(name: str, **parameters: object) -> Any:
    """The selector of that name, of all layers."""
    return default_registry().create("selector", {"name": name, "n": None, **parameters})


@dataclass(frozen=True, kw_only=True)
class Disagreement(ScoredLayers):
    """Layers where the own pathway is far from the neighbours', weighed by how much these agree.

    With p and p_i the routing weights of a layer as distributions and p̄ = Σ K_i p_i, the score is
    d(p, p̄) (1 − Σ K_i d(p_i, p̄)), where d is the total variation distance (0 to 1). An expert's score is its part of
    d(p, p̄).
    """

    name: ClassVar[str] = "disagreement"

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        weight = problem.neighbours.weight[:, :, None, None]
        own, near = distribution(problem.own), distribution(problem.neighbour_pathways)
        mean = (weight * near).sum(1)
        found = weight.flatten(1).sum(1)[:, None] > 0  # without neighbours nobody disagrees
        apart = 0.5 * (own - mean).abs() * found.unsqueeze(-1)
        return apart.sum(-1) * agreement(problem), apart


FOLDS = 5
PENALTIES = np.logspace(-2, 4, 13)


@dataclass(frozen=True, kw_only=True)
class Learned(ScoredLayers):
    """Layers whose predicted benefit is highest, and above the threshold.

    On ``training`` references, answered right and wrong, the single-layer effects of the run's own optimizer are
    measured, with the reference left out of its own neighbours. By how much its right answer becomes likelier is what a
    ridge regression (scikit-learn, penalty by cross-validation) learns to predict from ``FEATURES``, which cost no pass
    at all. The regression is kept beside the reference set.
    """

    training: Annotated[int, Field(ge=32)] = 128
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    slopes: Any = field(default=None, repr=False, compare=False)
    effects: Any = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "learned"

    @property
    def references_needed(self) -> int:
        return self.training

    def prepare(self, training: TrainingReferences) -> Self:
        # looked up by name, but parts of who learns: where their code is another, it learns anew
        slopes = _scores_by("amortized", experts=self.experts)
        effects = _scores_by("causal", experts=self.experts, optimizer=training.optimizer)
        learner = replace(self, slopes=slopes, effects=effects)
        return replace(self, learned=training.once(learner, lambda: learner._fit(training)))

    def score(self, problem: Problem) -> tuple[Tensor, Tensor | None]:
        if self.learned is None:
            raise SettingError("learned expected references to learn from first; use it through Optimizer or a run.")
        known, learned_of = features(problem, self.core_size(problem)), len(self.learned["mean"])
        if known.shape[-1] != learned_of:
            raise SettingError(
                f"learned expected a model with the layers that it learned from ({learned_of} features of each), got "
                f"{known.shape[-1]}; learn anew."
            )
        scaled = (known - self.learned["mean"]) / self.learned["scale"]
        return scaled @ self.learned["coefficients"] + self.learned["intercept"], None

    def _fit(self, training: TrainingReferences) -> dict[str, Tensor]:
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import GroupKFold
        from sklearn.preprocessing import StandardScaler

        known, benefit = [], []
        group: list[int] = []
        for problem in training.problems(self.training):
            experts = self.core_size(problem)
            known.append(features(problem, experts))
            group += [len(group) + b for b in range(len(problem.own))]
            benefit.append(self._measured(problem))
        x, y = torch.cat(known).flatten(0, 1).double().numpy(), torch.cat(benefit).flatten().double().numpy()
        scaler = StandardScaler().fit(x)
        # a question's layers share its features: the penalty is chosen on other questions
        folds = list(GroupKFold(FOLDS).split(x, groups=np.repeat(group, len(x) // len(group))))
        model: Any = RidgeCV(alphas=PENALTIES, cv=folds).fit(scaler.transform(x), y)
        found = {"mean": scaler.mean_, "scale": scaler.scale_, "coefficients": model.coef_}
        found["intercept"] = np.array(model.intercept_)
        return {name: torch.from_numpy(np.ascontiguousarray(value)).float() for name, value in found.items()}

    def _measured(self, problem: LabeledProblem) -> Tensor:
        """``[B, L]`` by how much the right answer becomes likelier when that layer alone is re-mixed."""
        found: Tensor = self.effects.single_layer_effects(problem, lambda p: cast(LabeledProblem, p).label_loss)
        return found


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [Disagreement, Learned]
