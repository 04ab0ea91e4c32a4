"""Rules over router scores: what they see of each MoE layer, and what running along one takes.

A pathway is one rule, and a constant one (``rules.py``). Others look at what the router makes of each token: a shift of
its logits, noise on them, another rank of expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .._printed import in_brief
from ..errors import C3POError, ModelError, SettingError
from .finite import NotFinite, finite
from .gates import Routers
from .intercept import intercepted
from .mixing import mass
from .sites import WORKING, Site
from .styles import Change

EXPLAINED = 0.02
"""How far a layer's own weights may be from what softmax says; half precision is within 0.01."""


@dataclass(frozen=True, eq=False)
class LayerRouting:
    """What one MoE layer is about to do with R tokens.

    Attributes:
        position: of the MoE layer, 0 … L-1.
        index: ``[R, k]`` the experts that the router chose.
        weights: ``[R, k]`` their weights.
        logits: ``[R, E]`` the router's scores in float32, up to a number for each token; -inf for what cannot be mixed.
        sample: ``[R]`` which of the prompts each token belongs to; on the CPU, like the next two.
        token: ``[R]`` its place in its sequence, 0 … T-1; tokens of several options at one depth share it.
        real: ``[R]`` bool, no padding.
        site: the layer itself.
        layers: decoder layer index of each of the L MoE layers.
        selection_bias: ``[E]`` what the router adds to its scores when it chooses, not when it weighs; None: nothing.
        inputs: ``[R, H]`` the hidden states that the router reads; None where no model is run.
    """

    position: int
    index: Tensor
    weights: Tensor
    logits: Tensor
    sample: Tensor
    token: Tensor
    real: Tensor
    site: Site
    layers: tuple[int, ...]
    selection_bias: Tensor | None = None
    inputs: Tensor | None = None
    __repr__ = in_brief

    def change(self, index: Tensor, logits: Tensor | None = None) -> Change:
        """Other experts for every token, weighed as the layer weighs its own choice; differentiable in the logits.

        A layer that renormalizes gives them the mass that its own choice had; any other gives each its probability,
        times the same factor.

        Args:
            index: ``[R, n]`` the experts.
            logits: ``[R, E]`` what they are weighed by; None: the router's.

        Raises:
            ModelError: the layer's own choice is not the best k by softmax of the router's scores.
        """
        own, by = self.logits.softmax(-1), self.logits if logits is None else logits
        self._check(own)
        total = mass(self.weights.float())
        if self.site.renormalized:  # among the chosen alone: no rounding error is a gradient of the others
            return Change(None, index, by.gather(1, index).softmax(-1) * total)
        factor = (total / mass(own.gather(1, self.index))).detach()
        return Change(None, index, by.softmax(-1).gather(1, index) * factor)

    def weighed(self, index: Tensor, logits: Tensor | None = None) -> Tensor:
        """Weights ``[R, n]`` of other experts ``[R, n]`` as the layer weighs its own, whatever it chose those by.

        By softmax or sigmoid of the router's scores: of the same mass in a layer that renormalizes, else times the same
        factor.

        Args:
            index: ``[R, n]`` the experts.
            logits: ``[R, E]`` what they are weighed by; None: the router's.

        Raises:
            ModelError: the layer's own weights are in no such proportion.
        """
        if not self.in_proportion():
            raise ModelError(
                f"Expected MoE layer {self.site.layer} to weigh its experts by softmax or sigmoid of their router "
                f"scores, but {type(self.site.router).__name__} weighs them otherwise: others cannot be weighed as "
                f"this family weighs its own; take a trace with weights, or a rule that makes its own. {WORKING}"
            )
        by, total = self.logits if logits is None else logits, mass(self.weights.float())
        own = self.scored(self.logits).gather(1, self.index)
        if not self.site.renormalized:
            return self.scored(by).gather(1, index) * (total / mass(own))
        if self.site.scoring == "sigmoid":
            found = self.scored(by).gather(1, index)
            return found / mass(found) * total
        return by.gather(1, index).softmax(-1) * total  # among the chosen alone: none of them may underflow

    def in_proportion(self) -> bool:
        """Whether the layer's own weights are in proportion to what it makes of its router's scores."""
        return self._alike(self.scored(self.logits).gather(1, self.index), self.weights.float())

    def _alike(self, one: Tensor, other: Tensor) -> bool:
        """Whether weights ``[R, k]`` are in the same proportion, padding aside."""
        real = self.real.to(one.device)
        return torch.allclose((one / mass(one))[real], (other / mass(other))[real], rtol=0, atol=EXPLAINED)

    def scored(self, logits: Tensor) -> Tensor:
        """What the router makes of logits ``[R, E]`` before it chooses: their sigmoid, or their softmax."""
        return logits.sigmoid() if self.site.scoring == "sigmoid" else logits.softmax(-1)

    def _check(self, probabilities: Tensor) -> None:
        """Refuse what a rule over logits cannot be had for: other functions, a selection bias, groups."""
        own = probabilities.detach()
        found, best = own.gather(1, self.index), own.topk(self.index.shape[1]).values
        plain = self.site.scoring != "sigmoid" and self._alike(found, self.weights.detach().float())
        if not (plain and self._alike(found.sort(descending=True).values, best)):
            raise ModelError(
                f"Expected MoE layer {self.site.layer} to mix its best experts by the softmax of their router scores, "
                f"but {type(self.site.router).__name__} chooses or weighs them otherwise: a rule over router scores "
                f"cannot be had for this family; take OLMoE, DeepSeekMoE, Qwen or Mixtral. {WORKING}"
            )


class RoutingRule(Protocol):
    """What to do with the routing of each MoE layer, in each call."""

    def __call__(self, routing: LayerRouting) -> Change | None:
        """Other routing, most often by ``routing.change``; None leaves the layer to the model, bit for bit."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The tokens of one call, each ``[R]``: whose they are (0 … B-1), their places, whether they are no padding."""

    prompt: Tensor
    token: Tensor
    real: Tensor


@dataclass(eq=False)
class RuleRun:
    """Prompts that are run along a rule, and how many experts that takes.

    Attributes:
        sites: the model's MoE layers.
        rule: asked at each of them.
        samples: ``[B]`` the numbers that the rule knows the prompts by.
        start: the first MoE layer that it is asked at.
        pairs: ``[B, L]`` (token, expert) pairs run so far, without padding.
    """

    sites: Sequence[Site]
    rule: RoutingRule
    samples: Tensor
    start: int = 0
    pairs: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = torch.zeros(len(self.samples), len(self.sites), dtype=torch.long)

    def mixed(self, prompt: int) -> dict[int, float]:
        """For each MoE layer number, the pairs that one of the prompts has taken so far."""
        return dict(enumerate(map(float, self.pairs[prompt].tolist())))

    def routing(self, prompt: Tensor, token: Tensor, real: Tensor) -> AbstractContextManager[None]:
        """Route by the rule inside the block; afterwards the model is as it was, also after an exception.

        Args:
            prompt: ``[N]`` whose sequence it is, 0 … B-1.
            token: ``[N, S]`` each token's place.
            real: ``[N, S]`` bool, no padding.
        """
        rows = Rows(prompt[:, None].expand_as(token).flatten(), token.flatten(), real.flatten())
        return self.routed(lambda position, count: rows)

    @contextmanager
    def routed(self, rows_of: Callable[[int, int], Rows]) -> Iterator[None]:
        """Likewise, where the rows of a call are known by the MoE layer, and by how many there are.

        Raises:
            SettingError: on a call: a rule gives experts weights that are NaN or infinite.
            NotFinite: on a call: the router does, and a rule fails on it.
        """
        routers = Routers(self.sites)
        layers = tuple(site.layer for site in self.sites)

        def decide(position: int, index: Tensor, weights: Tensor) -> Change | None:
            rows, router = rows_of(position, len(index)), routers.take(position)
            change = None
            if position >= self.start:
                seen = LayerRouting(
                    position,
                    index,
                    weights,
                    router.logits,
                    self.samples[rows.prompt],
                    rows.token,
                    rows.real,
                    self.sites[position],
                    layers,
                    router.bias,
                    router.inputs,
                )
                try:
                    change = self.rule(seen)
                    _check_finite(change, rows.real, self.sites[position].layer)
                except C3POError as error:  # what a router makes is looked at where a rule fails on it, and at the head
                    if finite(weights, rows.real):
                        raise
                    raise NotFinite.of(f"router weights in MoE layer {self.sites[position].layer}", weights) from error
            self._count(position, rows, index, change)
            return change

        with routers.seen(), intercepted(self.sites, decide):
            yield

    def _count(self, position: int, rows: Rows, index: Tensor, change: Change | None) -> None:
        number = torch.full_like(rows.prompt, index.shape[1])
        if change is not None:
            used = change.index.shape[1] if change.used is None else change.used.cpu()
            number[slice(None) if change.rows is None else change.rows.cpu()] = used
        self.pairs[:, position].index_add_(0, rows.prompt[rows.real], number[rows.real])


def _check_finite(change: Change | None, real: Tensor, layer: int) -> None:
    if change is None or finite(change.weights, real if change.rows is None else real[change.rows.cpu()]):
        return
    raise SettingError(
        f"Expected a rule to give experts finite weights, got NaN or infinity in MoE layer {layer}: the scores that it "
        "makes are beyond what float32 holds, or so far below zero that none of the experts has any weight left; let "
        "it change them less."
    )
