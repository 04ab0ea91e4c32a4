"""Routing Manifold Alignment: routers tuned so that neighbours in task space route alike; in one file.

"Routing Manifold Alignment Improves Generalization of Mixture-of-Experts LLMs" (Li, Li and Zhou 2025, arXiv
2511.07419). The routers of the last five MoE layers are trained, all else is frozen. Beside the task's loss each sample
i pays λ Σ_j W_ij ‖r_i − r_j‖² (eqs. 7 and 9): r its routing weights at the prompt's last token, those layers' side by
side, j its nearest samples that the model answers right (eqs. 2 and 3), W_ij their Gaussian similarity in embedding
space as a share (eqs. 5 and 6). Afterwards the model answers at its own price.

Neighbours are found by the arm's retriever and weighed by its kernel, among the references that are learned from: the
paper's k = 3 (the code's is 5) is the retriever's default, its ε-ball (eq. 4) ``faiss-radius``, its random neighbours
``random``. The paper gives no number of its training; λ, the rate, its warm-up, batch and epochs are those of the
released code (github.com/tianyi-lab/RoMA, finetune_roma.py), as is σ = 0.4: ``kernel: {name: gaussian, length_scale:
0.4}``. Its warm-up of 2,000 steps, of both the rate and λ, is of 49,000 samples: of few references set ``warmup`` to 0.

Departs: r_j is the untrained model's, as in the code (the paper does not say); r is what the routers make of all
experts, not of the chosen alone (it does not say); no sample is its own neighbour. The released code reads r_i from a
file, too, so that its regularization has no gradient: here it has, as the paper says. A fifth of the references is held
back, and gradients are clipped, as of ``router-tuning``, which this is at λ = 0.

The paper claims 7 to 15 points of accuracy over eight benchmarks, with OLMoE, DeepSeekMoE and Qwen3-MoE.

Try it: ``c3po demo --arm roma``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from c3po_tuned import Labeled, Lesson, RouterTuning, Training
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from c3po_adaptive import AnswererStrategy, SettingError, hookimpl


@dataclass(frozen=True, kw_only=True)
class RoMA(RouterTuning):
    """The routers' own weights, trained so that questions route as near ones do that the model answers right.

    Attributes:
        epochs: passes over the references, at most.
        lr: learning rate.
        batch: references a step.
        patience: epochs without progress after which it stops.
        alignment: λ, what routing unlike the neighbours' costs beside the loss; 0: nothing.
        weight_decay: AdamW's.
        warmup: steps in which the learning rate and λ rise to what they are.
    """

    epochs: PositiveInt = 3
    lr: PositiveFloat = 7e-5
    batch: PositiveInt = 32
    patience: PositiveInt = 3
    alignment: NonNegativeFloat = 0.8
    weight_decay: NonNegativeFloat = 0.01
    warmup: NonNegativeInt = 2000
    name: ClassVar[str] = "roma"

    @property
    def decay(self) -> float:
        return self.weight_decay

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0

    def lesson(self, training: Training) -> Lesson:
        return _Aligned.of(self, training) if self.alignment else training.step

    def used(self, strategies: object) -> tuple[str, ...]:
        near = ("retriever", "kernel", "learn_from", "max_similarity") if self.alignment else ()
        return (*super().used(strategies), *near)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Aligned:
    """The task's loss, and what routing unlike the neighbours' costs.

    Attributes:
        strategy: whose.
        training: whose.
        trained: the n decoder layers whose routers are trained.
        near: of each question by its id, the rows of its neighbours ``[K]``, and W ``[K]``.
        targets: ``[N, n, E]`` r_j of all that may be neighbours.
        once: FLOPs of these.
    """

    strategy: RoMA
    training: Training
    trained: tuple[int, ...]
    near: dict[str, tuple[Tensor, Tensor]]
    targets: Tensor
    once: float

    @classmethod
    def of(cls, strategy: RoMA, training: Training) -> _Aligned:
        """With the model as it was.

        Raises:
            SettingError: it answers none right of those that are learned from.
        """
        context, whole = training.context, training.context.references_for(strategy.name)
        learned = [one.question for one in training.learned_from]
        rows = {q.id: row for row, q in enumerate(whole.questions)}
        references = whole.subset(torch.tensor([rows[q.id] for q in learned]))
        if not len(known := references.candidates(context.settings)):
            raise SettingError(
                f"{strategy.name} expected references that the model answers right among the {len(learned)} that it "
                "learns from, got none; use easier ones, or set learn_from to all."
            )
        found = replace(context, build_references=lambda: references).neighbours(learned)
        near = {q.id: (i, w) for q, i, w in zip(learned, found.index, found.weight, strict=True)}
        trained, size = strategy.chosen(context.model.layers, "MoE layers"), strategy.batch
        labeled = {one.question.id: one for one in training.learned_from}
        may = [labeled[q.id] for q in known.questions]
        with torch.no_grad():
            parts = [training.routed(may[i : i + size], trained)[1] for i in range(0, len(may), size)]
        return cls(strategy, training, trained, near, torch.cat(parts), training.work(may))

    def __call__(self, part: Sequence[Labeled], step: int) -> tuple[Tensor, float]:
        loss, own = self.training.routed(part, self.trained)
        index, share = (torch.stack(each) for each in zip(*(self.near[one.question.id] for one in part), strict=True))
        apart = (own[:, None] - self.targets[index.clamp_min(0)]).square().sum((-1, -2))  # rows of -1 have no share
        strength = self.strategy.alignment * self.strategy.rate(step)
        taken = self.training.work(part, self.training.tuning.weights) + (0 if step else self.once)
        return loss + strength * (share.to(apart) * apart).sum(-1).mean(), taken


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [RoMA]
