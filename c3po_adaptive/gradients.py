"""Gradients of references: how each one's loss changes with its own pathway, computed once for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .losses import right_answer_loss
from .models import RoutedModel
from .routing.scores import TailScores
from .routing.states import State
from .types import Prompt, Scope, Target

BATCH = 16
_KEPT: WeakKeyDictionary[RoutedModel, dict[object, Tensor]] = WeakKeyDictionary()


def own_gradients(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: Callable[[Sequence[Prompt]], Sequence[State]],
    *,
    scope: Scope,
    target: Target,
) -> Tensor:
    """``[N, L, E]`` gradient of each reference's loss at its own pathway, over every expert of every MoE layer.

    What was computed for a model is kept as long as the model.

    Args:
        states: from prompts to their prefilled states, called for those that are new.
    """
    kept = _KEPT.setdefault(model, {})
    keys = [(prompt, answer, scope, target) for prompt, answer in zip(prompts, answers, strict=True)]
    new = list(dict.fromkeys(key for key in keys if key not in kept))
    for i in range(0, len(new), BATCH):
        part = new[i : i + BATCH]
        found = _gradients(model, states([p for p, *_ in part]), torch.tensor([a for _, a, *_ in part]), scope, target)
        kept.update(zip(part, found, strict=True))
    return torch.stack([kept[key] for key in keys])


def _gradients(model: RoutedModel, states: Sequence[State], answers: Tensor, scope: Scope, target: Target) -> Tensor:
    own = torch.stack([s.own for s in states])
    everything = torch.ones_like(own, dtype=torch.bool)
    everything[..., model.sites[0].mixable :] = False
    tails = TailScores(
        model.model,
        model.sites,
        model.flops,
        states,
        torch.arange(len(states)),
        own,
        everything.any(-1),
        everything,
        scope,
        relative=model.letters_alone and target == "choices",
    )
    weights = own.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(right_answer_loss(tails(weights), answers, target).sum(), weights)
    return gradient
