"""A small linear model that predicts each layer's benefit, trained on references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor

from ..checks import check_number
from ..errors import SettingError
from ..problem import LabeledProblem, Problem, TrainingReferences
from ._features import features
from ._single_layer import single_layer_benefit
from .scored import Scored

FOLDS = 5
PENALTIES = np.logspace(-2, 4, 13)


@dataclass(frozen=True, kw_only=True)
class Learned(Scored):
    """Layers whose predicted benefit is highest, and above the threshold.

    On ``training`` references, answered right and wrong, the single-layer effects of the run's own optimizer are
    measured, with the reference left out of its own neighbours. By how much its right answer becomes likelier is what a
    ridge regression (scikit-learn, penalty by cross-validation) learns to predict from ``FEATURES``, which cost no pass
    at all. The regression is kept beside the reference set.
    """

    training: int = 128
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self, "training", at_least=32, whole=True)

    @property
    def references_needed(self) -> int:
        return self.training

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, learned=training.once(self, lambda: self._fit(training)))

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
            benefit.append(single_layer_benefit(problem, training.optimizer, experts, _label_loss))
        x, y = torch.cat(known).flatten(0, 1).double().numpy(), torch.cat(benefit).flatten().double().numpy()
        scaler = StandardScaler().fit(x)
        # a question's layers share its features: the penalty is chosen on other questions
        folds = list(GroupKFold(FOLDS).split(x, groups=np.repeat(group, len(x) // len(group))))
        model: Any = RidgeCV(alphas=PENALTIES, cv=folds).fit(scaler.transform(x), y)
        found = {"mean": scaler.mean_, "scale": scaler.scale_, "coefficients": model.coef_}
        found["intercept"] = np.array(model.intercept_)
        return {name: torch.from_numpy(np.ascontiguousarray(value)).float() for name, value in found.items()}


def _label_loss(problem: Problem) -> Any:
    return cast(LabeledProblem, problem).label_loss
