"""Faults in memory: a model with one, which shares every other number with the sound model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..errors import SettingError
from ..routing.grouping import grouped, waiting
from ..routing.intercept import recorded
from ..routing.router_rules import RuleRun
from ..routing.rule_scores import Ruled, ruled_tails
from ..routing.states import State, collate
from ..routing.tail import tail_hidden
from ..types import Prompt
from .faults import Fault, Planted
from .fingerprint import fingerprint
from .names import public_name
from .routed import RoutedModel
from .with_tensors import check_weights, router_tensors, with_tensors

_SOUND: WeakKeyDictionary[RoutedModel, RoutedModel] = WeakKeyDictionary()
"""Of each faulty model the sound one that was made of it."""


def planted(model: RoutedModel, fault: Fault) -> RoutedModel:
    """A model with a fault; all but the routers that it changes is the sound model's own memory.

    Raises:
        SettingError: a layer or an expert that the model does not have, or a model that has a fault already.
        ModelError: routers whose rows cannot be told, quantized or offloaded weights.
    """
    if model.fault is not None and not model.fault.fault.nothing:
        raise SettingError("Expected a sound model to plant a fault in, got one that has one; plant it in its base.")
    fault.fits(model.layers, model.sites[0].mixable)
    check_weights(model)
    sound: dict[str, Tensor] = {}
    faulty: dict[str, Tensor] = {}
    for site in (site for site in model.sites if site.layer in fault.broken):
        tensors = router_tensors(model.model, site)
        matrix = next(iter(tensors))
        for name, tensor in tensors.items():
            rows = tensor.detach().reshape(site.n_experts, -1)
            faulty[name] = fault.changed(rows, site.layer, matrix=name == matrix).view_as(tensor)
        sound |= tensors
    base = {
        "name": public_name(model.name),
        "model": fingerprint(model),
        "revision": getattr(model.model.config, "_commit_hash", None),
        "dtype": str(model.model.dtype).removeprefix("torch."),
    }
    return believed(with_tensors(model, faulty), Planted(fault, sound, base))


def sound(model: RoutedModel) -> RoutedModel:
    """A model without the fault that was planted in it, bit for bit; again it shares every other number. The same one
    each time.

    Raises:
        SettingError: it has none that is known, or its weights were changed since.
    """
    fault = known_fault(model)
    if model not in _SOUND:
        _SOUND[model] = with_tensors(model, fault.sound)
    return _SOUND[model]


def believed(model: RoutedModel, fault: Planted) -> RoutedModel:
    """A model that is known to have a fault, as long as it has the weights that it has now."""
    model.fault = replace(fault, model=fingerprint(model))
    return model


def known_fault(model: RoutedModel) -> Planted:
    """The fault that was planted in a model.

    Raises:
        SettingError: it has none that is known, or its weights were changed since.
    """
    if model.fault is None:
        raise SettingError(
            f"Expected a model with a known fault, got {model.name!r}; plant one by c3po fault, or by a study of "
            "kind: faults."
        )
    if model.fault.model != fingerprint(model):
        raise SettingError(
            f"Expected the weights that the fault of {model.name!r} was planted with, got others, as after fine-tuning "
            "or a change of dtype: what is wrong with them is not known. Load it anew, or plant the fault again."
        )
    return model.fault


def undone_at_tails(model: RoutedModel, prompts: Sequence[Prompt]) -> list[Ruled]:
    """Prompts as the faulty model read them, their last token and the options by the sound routers, token by token:
    all that re-mixing there could win back.

    Raises:
        SettingError: the model has no known fault.
    """
    without, states = sound(model), model.prefill(prompts)
    run = RuleRun(without.sites, lambda routing: None, torch.arange(len(prompts)))
    with without.answering(), torch.no_grad():
        return ruled_tails(without.model, without.sites, without.flops, states, run)


def sound_pathways(model: RoutedModel, states: Sequence[State]) -> Tensor:
    """``[B, L, E]`` the weights that the sound routers give the token where ω acts, behind prompts as the faulty model
    read them; up to the first broken layer the model's own.

    Raises:
        SettingError: the model has no known fault, or one that is nowhere.
    """
    without, broken = sound(model), known_fault(model).fault.broken
    if not broken:
        raise SettingError("Expected a fault in some layer, got one that changes nothing.")
    start = model.layers.index(broken[0])
    found = torch.stack([state.own for state in states])
    for group in grouped([waiting(i, state.packed) for i, state in enumerate(states)]):
        batch = collate([states[i] for i in group])
        first = [batch.owner.tolist().index(b) for b in range(len(group))]  # of a sample's sequences, if it has several
        rows = torch.tensor(first) * batch.tokens.shape[1] + batch.acting[first]
        with without.answering(), torch.no_grad(), recorded(without.sites[start:], rows) as recording:
            tail_hidden(without.model, without.sites, batch, start)
        found[group, start:] = recording.stacked()[0].to(found)
    return found
