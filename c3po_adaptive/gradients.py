"""What a reference teaches by itself, computed once for a model: its loss's gradient, and where descent takes it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .losses import right_answer_loss
from .models import RoutedModel
from .optimizers.descent import Descent
from .routing.mixing import core
from .routing.scores import TailScores
from .routing.states import State
from .types import Head, Prompt, Scope, Target

BATCH = 16
CORE = 20  # experts a layer that a reference's own descent may use: the paper's
States = Callable[[Sequence[Prompt]], Sequence[State]]
_KEPT: WeakKeyDictionary[RoutedModel, dict[Hashable, Tensor]] = WeakKeyDictionary()


def own_gradients(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    *,
    scope: Scope,
    target: Target,
) -> Tensor:
    """``[N, L, E]`` gradient of each reference's loss at its own pathway, over every expert of every MoE layer.

    What was computed for a model is kept as long as the model.

    Args:
        states: from prompts to their prefilled states, called for those that are new.
    """

    def computed(part: Sequence[State], right: Tensor) -> Tensor:
        own, tails = _tails(model, part, scope, target, "full")
        weights = own.clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(right_answer_loss(tails(weights), right, target).sum(), weights)
        return gradient

    return _once(model, prompts, answers, states, ("gradient", scope, target), computed)


def own_changes(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    *,
    scope: Scope,
    target: Target,
    descent: Descent,
    head: Head = "full",
) -> Tensor:
    """``[N, L, E]`` change of each reference's pathway by descent of its own loss, in all layers' core experts.

    Kept like gradients. ``head``: as the model bears it (``RoutedModel.head_for``).
    """

    def computed(part: Sequence[State], right: Tensor) -> Tensor:
        own, tails = _tails(model, part, scope, target, head)

        def loss(weights: Tensor, running: Tensor | None = None) -> Tensor:
            return right_answer_loss(tails(weights, running), right, target)

        ranking = torch.stack([s.router for s in part]) + (own > 0)
        with torch.enable_grad():
            reached = descent.descend_from(own, loss, core(ranking, min(CORE, model.sites[0].mixable)) | (own > 0))
        return reached - own

    return _once(model, prompts, answers, states, (descent, scope, target, head), computed)


def _once(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    kind: Hashable,
    computed: Callable[[Sequence[State], Tensor], Tensor],
) -> Tensor:
    """What is computed of each reference, or known already."""
    kept = _KEPT.setdefault(model, {})
    keys = [(prompt, answer, kind) for prompt, answer in zip(prompts, answers, strict=True)]
    new = list(dict.fromkeys(key for key in keys if key not in kept))
    for i in range(0, len(new), BATCH):
        part = new[i : i + BATCH]
        found = computed(states([p for p, *_ in part]), torch.tensor([a for _, a, _ in part]))
        kept.update(zip(part, found, strict=True))
    return torch.stack([kept[key] for key in keys])


def _tails(
    model: RoutedModel, states: Sequence[State], scope: Scope, target: Target, head: Head
) -> tuple[Tensor, TailScores]:
    """Own pathways ``[N, L, E]``, and tails that every expert of every layer acts on."""
    own = torch.stack([s.own for s in states])
    everything = torch.ones_like(own, dtype=torch.bool)
    everything[..., model.sites[0].mixable :] = False
    return own, TailScores(
        model.model,
        model.sites,
        model.flops,
        states,
        torch.arange(len(states)),
        own,
        everything.any(-1),
        everything,
        scope,
        head=head,
        relative=model.letters_alone and target == "choices",
    )
