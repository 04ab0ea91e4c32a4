"""What a reference teaches by itself, computed once for a model: its loss's gradient, and where descent takes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from .kept import Store, key_of
from .losses import right_answer_loss
from .models import RoutedModel
from .optimizers.descent import Descent
from .reference import fingerprint, packages
from .routing.mixing import core
from .routing.scores import TailScores
from .routing.states import State
from .types import Head, Prompt, Scope, Target

BATCH = 16
CORE = 20  # experts a layer that a reference's own descent may use: the paper's
States = Callable[[Sequence[Prompt]], Sequence[State]]
_STORES: WeakKeyDictionary[RoutedModel, dict[Hashable, Store]] = WeakKeyDictionary()


def own_gradients(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    *,
    scope: Scope,
    target: Target,
    folder: Path | None = None,
) -> Tensor:
    """``[N, L, E]`` gradient of each reference's loss at its own pathway, over every expert of every MoE layer.

    What was computed is kept as long as the model, and in a folder if there is one.

    Args:
        states: from prompts to their prefilled states, called for those that are new. folder: of the reference set.
    """

    def computed(part: Sequence[State], right: Tensor) -> Tensor:
        own, tails = _tails(model, part, scope, target, "full")
        weights = own.clone().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(right_answer_loss(tails(weights), right, target).sum(), weights)
        return gradient

    return _once(model, prompts, answers, states, ("gradient", scope, target), computed, folder)


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
    folder: Path | None = None,
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

    return _once(model, prompts, answers, states, (descent, scope, target, head), computed, folder)


def _once(
    model: RoutedModel,
    prompts: Sequence[Prompt],
    answers: Sequence[int],
    states: States,
    kind: Hashable,
    computed: Callable[[Sequence[State], Tensor], Tensor],
    folder: Path | None,
) -> Tensor:
    """What is computed of each reference, or known already."""
    stores = _STORES.setdefault(model, {})
    if (kind, folder) not in stores:
        stores[kind, folder] = Store(_place(model, kind, folder))
    store = stores[kind, folder]
    asked = list(zip(prompts, answers, strict=True))
    keys = [key_of(prompt, answer) for prompt, answer in asked]
    new = list({key: pair for key, pair in zip(keys, asked, strict=True) if key not in store}.items())
    for i in range(0, len(new), BATCH):
        part = new[i : i + BATCH]
        found = computed(states([p for _, (p, _) in part]), torch.tensor([a for _, (_, a) in part]))
        store.add([key for key, _ in part], found)
    store.write()
    return torch.stack([store[key] for key in keys])


def _place(model: RoutedModel, kind: Hashable, folder: Path | None) -> Path | None:
    if folder is None:
        return None
    identity = repr((fingerprint(model), str(model.model.dtype), kind, sorted(packages().items())))
    return folder / "own" / hashlib.sha256(identity.encode()).hexdigest()[:16]


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
        relative=model.letters_alone and target != "likelihood",
    )
