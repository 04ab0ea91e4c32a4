"""Selection as a policy that is learned by trial, what it re-mixed and what came of it: ``rl-layers``, ``rl-experts``.

Tried on the carved model (``docs/explanation/results.md``), and found to gain nothing: chosen layers equal all of them
(+0.0 points [−1.0, 1.1]), and what is learned from random rewards does nearly as well.

Try it: ``c3po demo --arm rl-layers --arm rl-experts``.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from c3po_adaptive import (
    LabeledProblem,
    LayerSelector,
    PathwayOptimizer,
    Problem,
    Selection,
    SettingError,
    TrainingReferences,
    default_registry,
    hookimpl,
    known_of,
)

from ._known import principal, reduced

Reward = Literal["lead", "answer", "random"]
"""How far the right choice is ahead, by the run's loss; one for a right answer; or (a control) drawn at random."""

HELD_BACK = 5  # one in so many references
START = 1.0  # logit that parts are taken with before anything is learned: more often than not


@dataclass(frozen=True, kw_only=True)
class Reinforced(LayerSelector):
    """A stochastic policy over what is re-mixed, learned on references by policy gradient; a subclass names the parts.

    Each part (a layer, or a group of experts) is taken with a probability, logistic in what the model knows of the
    question. For each reference several selections are drawn, the run's optimizer re-mixes each, and its reward is what
    came of it on the reference's own tail, less the price of what had to be run. Selections that beat the mean of their
    group become likelier (REINFORCE, Williams 1992, with the group's mean as baseline, as in GRPO, arXiv 2402.03300;
    scaled by the spread over all groups, so that what is maximized stays reward less price). An epoch is one step. A
    bandit: there is one decision, so no environment is needed.

    A question gets the parts whose probability is above one half; perhaps none. A fifth of the references is held back:
    where what is learned earns no more on them than all parts do, which it began with, all parts are kept
    (``learned["beats"]``). Learning curves are kept, a number an epoch: ``learned["reward"]``, ``learned["entropy"]``.

    Attributes:
        training: references that it tries on, those held back among them.
        group: selections drawn for each of them in each epoch.
        epochs: times that all are tried.
        lr: of Adam.
        reward: what is rewarded.
        price: of running all layers' tails once, in units of the reward: more of it traces a cheaper policy.
        spread: weight of the policy's entropy, which keeps it trying.
        dimensions: principal components of state and pathway that it reads.
        seed: of what is drawn.
    """

    training: Annotated[int, Field(ge=8)] = 64
    group: Annotated[int, Field(ge=2, description="a group's mean is what each is held against")] = 4
    epochs: PositiveInt = 20
    lr: PositiveFloat = 0.3
    reward: Reward = "lead"
    price: NonNegativeFloat = 0.0
    spread: NonNegativeFloat = 0.01
    dimensions: PositiveInt = 8
    seed: NonNegativeInt = 0
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    needs_neighbours: ClassVar[bool] = False

    @property
    def varies(self) -> str:  # type: ignore[override]  # a constant of others
        return "rewards drawn at random" if self.reward == "random" else ""

    @property
    def references_needed(self) -> int:
        return self.training

    @abstractmethod
    def parts(self, problem: Problem) -> int:
        """P, how many parts there are to take."""

    @abstractmethod
    def mask(self, problem: Problem, taken: Tensor) -> Tensor:
        """``[B, L, E]`` of the parts ``taken [B, P]`` (bool)."""

    def prepare(self, training: TrainingReferences) -> Self:
        learned = training.once(self, lambda: self._learn(training))
        if learned["taken"] == 0:
            warnings.warn(
                f"{self.name} learned to re-mix none of {self.training} references; lower its price, or take another "
                "optimizer, if that is not what the references say.",
                stacklevel=2,
            )
        return replace(self, learned=learned)

    def select(self, problem: Problem) -> Selection:
        if self.learned is None:
            raise SettingError(f"{self.name} expected references to learn from; use it through Optimizer or a run.")
        taken = _logits(self.learned, reduced(self.learned, known_of(problem))) > 0
        return Selection(self.mask(problem, taken))

    def _learn(self, training: TrainingReferences) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(self.seed)
        held = self.training // HELD_BACK
        seen = [(known_of(p), self.parts(p)) for p in training.problems(self.training - held)]
        raw, parts = torch.cat([known for known, _ in seen]), seen[0][1]
        scaling = principal(raw, self.dimensions)
        x = reduced(scaling, raw)
        start = {"weight": torch.zeros(x.shape[1], parts), "offset": torch.full((parts,), START)}
        policy = {name: tensor.clone().requires_grad_() for name, tensor in start.items()}
        optimizer = torch.optim.Adam(policy.values(), lr=self.lr)
        curves: dict[str, list[float]] = {"reward": [], "entropy": []}
        for _ in range(self.epochs):
            chance = torch.distributions.Bernoulli(logits=_logits(policy, x))
            taken = torch.rand(self.group, *chance.probs.shape, generator=drawn) < chance.probs.detach()
            reward = self._rewards(taken, training, drawn)
            ahead = reward - reward.mean(0)
            ahead = ahead / ahead.std().clamp_min(1e-6)  # of all: each question counts by what it has to gain
            entropy = chance.entropy().sum(-1).mean()
            gain = (ahead * chance.log_prob(taken.to(x.dtype)).sum(-1)).mean() + self.spread * entropy
            optimizer.zero_grad()
            (-gain).backward()
            optimizer.step()
            curves["reward"].append(reward.mean().item())
            curves["entropy"].append(entropy.item())
        found = {name: tensor.detach() for name, tensor in policy.items()}
        beats = self._ahead(found | scaling, training, held, drawn) > 0
        found = found if beats else start
        share = (_logits(found, x) > 0).any(-1).float().mean()
        told = {"taken": share, "beats": torch.tensor(float(beats))}
        return scaling | found | told | {name: torch.tensor(curve) for name, curve in curves.items()}

    def _ahead(
        self, policy: Mapping[str, Tensor], training: TrainingReferences, held: int, drawn: torch.Generator
    ) -> float:
        """By how much its choices earn more than all parts do, on references that it was not tried on."""
        found = []
        for problem in training.problems(held, self.training - held):
            taken = _logits(policy, reduced(policy, known_of(problem))) > 0
            own, every = (self._rewarded(problem, t, training, drawn) for t in (taken, torch.ones_like(taken)))
            found.append(own - every)
        return float(torch.cat(found).mean())

    def _rewards(self, taken: Tensor, training: TrainingReferences, drawn: torch.Generator) -> Tensor:
        """``[G, N]`` of selections ``taken [G, N, P]`` of all references, asked batch by batch."""
        found, at = [], 0
        for problem in training.problems(taken.shape[1]):
            mine = taken[:, at : (at := at + len(problem.own))]
            found.append(torch.stack([self._rewarded(problem, one, training, drawn) for one in mine]))
        return torch.cat(found, 1)

    @torch.no_grad()
    def _rewarded(
        self, problem: LabeledProblem, taken: Tensor, training: TrainingReferences, drawn: torch.Generator
    ) -> Tensor:
        """``[B]`` what comes of re-mixing the parts ``taken [B, P]``."""
        selection = Selection(self.mask(problem, taken))
        if self.reward == "random":
            return torch.randn(len(taken), generator=drawn) - self.price * run_again(selection)
        with torch.enable_grad():
            weights = _remixed(training.optimizer, problem.within(selection))
        if self.reward == "answer":
            came = (problem.answered(weights) == problem.answers).to(weights.dtype)
        else:
            came = -problem.label_loss(weights)
        return came - self.price * run_again(selection)


def run_again(selection: Selection) -> Tensor:
    """``[B]`` the share of adapted layers that have to be run: from the first one that is re-mixed on."""
    layers = selection.layers
    first = layers.to(torch.uint8).argmax(-1)
    share = (layers.shape[1] - first) / layers.shape[1]
    return torch.where(layers.any(-1), share, 0.0)


def _logits(policy: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``[N, P]``."""
    return x @ policy["weight"] + policy["offset"]


def _remixed(optimizer: PathwayOptimizer, problem: Problem) -> Tensor:
    """The optimizer's ω ``[B, L, E]``; one that is no upper bound does not get to see the labels."""
    if isinstance(problem, LabeledProblem) and not optimizer.needs_label:
        problem = problem.unlabeled()
    return optimizer.optimize(problem).detach()


@dataclass(frozen=True, kw_only=True)
class RLLayers(Reinforced):
    """A policy over layers (see ``Reinforced``): each is taken or left, and in each the router's top ``experts`` (None:
    all).
    """

    experts: Annotated[int, Field(ge=1, description="None (null) takes all of a layer")] | None = 20
    name: ClassVar[str] = "rl-layers"

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        self._every_layer().fits(layers, experts)

    def parts(self, problem: Problem) -> int:
        return len(problem.layers)

    def mask(self, problem: Problem, taken: Tensor) -> Tensor:
        return self._every_layer().select(problem).mask & taken[..., None]

    def _every_layer(self) -> LayerSelector:
        """The core experts of all layers."""
        spec = {"name": "fixed", "layers": "all", "experts": self.experts}
        made: LayerSelector = default_registry().create("selector", spec)
        return made


@dataclass(frozen=True, kw_only=True)
class RLExperts(Reinforced):
    """A policy over groups of experts (see ``Reinforced``), in all layers: the router's first E / ``groups``, the next
    as many, and so on; each group is taken or left.
    """

    groups: PositiveInt = 8
    name: ClassVar[str] = "rl-experts"

    def fits(self, layers: tuple[int, ...], experts: int) -> None:
        if self.groups > experts:
            raise SettingError(f"Expected groups of at most {experts} experts, got {self.groups} groups; take fewer.")

    def parts(self, problem: Problem) -> int:
        self.fits(problem.layers, problem.own.shape[-1])
        return self.groups

    def mask(self, problem: Problem, taken: Tensor) -> Tensor:
        rank = problem.ranking.argsort(-1, descending=True).argsort(-1)
        group = rank * self.groups // problem.own.shape[-1]
        each = taken[:, None].expand(-1, group.shape[1], -1)
        return torch.gather(each, -1, group)


@hookimpl
def register_layer_selectors() -> list[type[LayerSelector]]:
    return [RLLayers, RLExperts]
