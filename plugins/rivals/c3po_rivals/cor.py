"""CoR: a budget of experts, spread over layers by what hard questions need of them, in one file.

Hu et al. 2026, "Awakening Dormant Experts: Counterfactual Routing to Mitigate MoE Hallucinations" (ACL, arXiv
2604.14246). Offline: tokens are parted into hard and easy ones by the model's uncertainty; a layer's relative
sensitivity R_l is how much a perturbation of it changes the loss of hard ones, over that of easy ones; and an expert's
counterfactual impact (CEI) is the mean rise of the loss when its gate mass goes to the others that are active. At
inference layers get experts by R_l, as many in all as the model activates anyway, and in each layer those of the
highest impact come first. What the paper claims: factual accuracy rises by 3.1 % on average at the same number of
active experts.

As a selector it says which experts may be mixed, and the optimizer how: ``optimizer: {name: none, start: core}`` mixes
them by the router, which is nearest to the paper; NGD re-mixes them.

Where this departs from the paper: the tokens are the last ones of references' prompts; the loss is the run's, of their
right choices; and a layer's own experts stay available, so it never mixes fewer than the router chose. What could not
be looked up is ours: hard is what has more entropy of choices than the median; to perturb a layer is to multiply its
weights by exp(noise · ε), ε normal, at its mass; layers get experts by highest averages (D'Hondt) with R_l as votes;
and the impact alone orders experts, then the router.

Try it: ``c3po demo --arm cor`` (NGD in the layers and experts that it gives).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, cast

import torch
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    LayerSelector,
    Problem,
    Selection,
    SettingError,
    TrainingReferences,
    check_number,
    hookimpl,
)


@dataclass(frozen=True, kw_only=True)
class CoR(LayerSelector):
    """Experts by their counterfactual impact, more of them in layers that hard questions depend on; learned once.

    Attributes:
        budget: experts of all layers together; None: as many as the model activates, as in the paper.
        noise: standard deviation of the logarithm that perturbed weights are multiplied with.
        training: references that layers and experts are tried on.
    """

    budget: int | None = None
    noise: float = 1.0
    training: int = 64
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "cor"
    needs_neighbours: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.budget is not None:
            check_number(self, "budget", at_least=0, whole=True)
        check_number(self, "noise", above=0)
        check_number(self, "training", at_least=8, whole=True)

    @property
    def references_needed(self) -> int:
        return self.training

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        if self.budget is not None and self.budget > len(layers) * experts:
            raise SettingError(
                f"Expected a budget of at most {len(layers) * experts} experts, {experts} in each of {len(layers)} "
                f"layers, got {self.budget}; choose a smaller one."
            )

    def prepare(self, training: TrainingReferences) -> Self:
        return replace(self, learned=training.once(self, lambda: self._learn(training)))

    def select(self, problem: Problem) -> Selection:
        if self.learned is None:
            raise SettingError("cor expected references to learn from first; use it through Optimizer or a run.")
        self.fits(problem.layers, problem.own.shape[-1])
        sensitivity, impact = self.learned["sensitivity"], self.learned["impact"]
        if impact.shape != problem.own.shape[1:]:
            raise SettingError(
                f"Expected the layers and experts that cor learned of, {tuple(impact.shape)}, got "
                f"{tuple(problem.own.shape[1:])}; let it learn from references of this model."
            )
        active = problem.used.sum((1, 2))
        budget = active if self.budget is None else torch.full_like(active, self.budget)
        seats = seats_by_layer(sensitivity, budget, problem.own.shape[-1])
        mask = _places(impact.expand_as(problem.own), problem.ranking) < seats.unsqueeze(-1)
        return Selection(mask, sensitivity.expand(len(problem.own), -1).clone())

    def _learn(self, training: TrainingReferences) -> dict[str, Tensor]:
        uncertainty, changes, rises, ablated = [], [], [], []
        for problem in training.problems(self.training):
            uncertainty.append(_entropy(problem.own_scores))
            by_layer = [self._tried(problem, layer) for layer in range(len(problem.layers))]
            changes.append(torch.stack([change for change, _ in by_layer], 1))
            rises.append(torch.stack([rise for _, rise in by_layer], 1))
            ablated.append(problem.used)
        count = torch.cat(ablated).sum(0)
        return {
            "sensitivity": relative_sensitivity(torch.cat(changes), torch.cat(uncertainty)),
            "impact": torch.cat(rises).sum(0) / count.clamp_min(1),
        }

    @torch.no_grad()
    def _tried(self, problem: LabeledProblem, layer: int) -> tuple[Tensor, Tensor]:
        """``[B]`` how much noise in a layer changes the losses, and ``[B, E]`` their rise without each active expert;
        the other layers route by themselves.
        """
        mine, used = torch.zeros_like(problem.used), problem.used[:, layer]
        mine[:, layer] = used
        loss = cast(LabeledProblem, problem.within(Selection(mine))).label_loss
        own, before = problem.own[:, layer], loss(problem.own)

        def change(weights: Tensor) -> Tensor:
            total = own.sum(-1, keepdim=True)
            there = problem.own.clone()
            there[:, layer] = weights * (total / weights.sum(-1, keepdim=True).clamp_min(1e-12))
            return loss(there) - before

        noise = torch.stack([torch.randn(own.shape[-1], generator=g) for g in problem.generators])
        rises = torch.zeros_like(own)
        for place in range(int(used.sum(-1).max())):
            expert = (own + used).argsort(dim=-1, descending=True, stable=True)[:, place : place + 1]
            without = own.scatter(-1, expert, 0.0)
            lonely = without.sum(-1) == 0  # nobody is there to take its mass
            rises.scatter_(-1, expert, change(without.where(~lonely[:, None], own)).unsqueeze(-1))
        return change(own * (self.noise * noise).exp()).abs(), rises * used


def relative_sensitivity(changes: Tensor, uncertainty: Tensor) -> Tensor:
    """``[L]`` R_l: the mean of ``changes [N, L]`` of hard references, over that of easy ones.

    Args:
        changes: of the losses, by layer.
        uncertainty: ``[N]``; hard is what has more than the median.
    """
    hard = _places(uncertainty, -uncertainty) < len(uncertainty) // 2
    easy = changes[~hard].mean(0)
    return changes[hard].mean(0) / easy.clamp_min(1e-6)


def seats_by_layer(votes: Tensor, seats: Tensor, most: int) -> Tensor:
    """``[B, L]`` how many of ``seats [B]`` each layer gets, in proportion to ``votes [L]`` and ``most`` at most.

    By highest averages: one after another to the layer with the most votes for each seat that it would then have.
    """
    averages = votes.unsqueeze(-1) / torch.arange(1, most + 1)
    place = _places(averages.flatten(), averages.flatten()).view_as(averages)
    return (place < seats[:, None, None]).sum(-1)


def _entropy(scores: Tensor) -> Tensor:
    """``[B]`` entropy of the choices, over that of as many even ones."""
    logs = scores.log_softmax(-1)
    choices = scores.isfinite().sum(-1).to(scores.dtype)
    return -(logs.exp() * logs.where(scores.isfinite(), 0.0)).sum(-1) / choices.log().clamp_min(1e-12)


def _places(values: Tensor, then: Tensor) -> Tensor:
    """``[..., N]`` the place of each from 0, the greatest; of equal ones that with more of ``then`` comes first."""
    first = then.argsort(dim=-1, descending=True, stable=True)
    order = first.gather(-1, values.gather(-1, first).argsort(dim=-1, descending=True, stable=True))
    return order.argsort(dim=-1)


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [CoR]
