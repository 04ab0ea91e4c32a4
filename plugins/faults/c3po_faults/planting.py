"""Faults in memory: a model with one, which shares every other number with the sound model; and what it did to samples,
the truth that methods are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from c3po_adaptive import (
    FaultTruth,
    Prompt,
    RoutedModel,
    Ruled,
    SettingError,
    State,
    check_weights,
    public_name,
    router_tensors,
    with_tensors,
)
from c3po_adaptive.types import PathwayKind

from .faults import Fault

SAME = 1e-5
"""Shares of a layer's mass that differ by less are the same: sums in another order round otherwise."""
_SOUND: WeakKeyDictionary[RoutedModel, RoutedModel] = WeakKeyDictionary()
"""Of each faulty model the sound one that was made of it."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A fault that a model has.

    Attributes:
        fault: what was done.
        sound: the tensors that it changed, by name, as they were.
        base: which model it was planted in.
        model: fingerprint of the one that has it; "" before there is one.
    """

    fault: Fault
    sound: Mapping[str, Tensor]
    base: Mapping[str, str | None] = field(default_factory=dict)
    model: str = ""

    def truth(self, model: RoutedModel, states: Sequence[State], kind: PathwayKind) -> FaultTruth:
        """As ``truth_of``: what strategies are told that say ``needs_truth``."""
        return truth_of(model, states, kind)


def planted(model: RoutedModel, fault: Fault) -> RoutedModel:
    """A model with a fault; all but the routers that it changes is the sound model's own memory.

    Raises:
        SettingError: a layer or an expert that the model does not have, or a model that has a fault already.
        ModelError: routers whose rows cannot be told, quantized or offloaded weights.
    """
    if model.fault is not None and not cast(Planted, model.fault).fault.nothing:
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
        "model": model.fingerprint,
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
    model.fault = replace(fault, model=model.fingerprint)
    return model


def known_fault(model: RoutedModel) -> Planted:
    """The fault that was planted in a model.

    Raises:
        SettingError: it has none that is known, or its weights were changed since.
    """
    fault = cast(Planted, model.known_fault)
    if fault.model != model.fingerprint:
        raise SettingError(
            f"Expected the weights that the fault of {model.name!r} was planted with, got others, as after fine-tuning "
            "or a change of dtype: what is wrong with them is not known. Load it anew, or plant the fault again."
        )
    return fault


def undone_at_tails(model: RoutedModel, prompts: Sequence[Prompt]) -> list[Ruled]:
    """Prompts as the faulty model read them, their last token and the options by the sound routers, token by token:
    all that re-mixing there could win back.

    Raises:
        SettingError: the model has no known fault.
    """
    without, states = sound(model), model.prefill(prompts)
    with torch.no_grad():
        return without.ruled_from(states, lambda routing: None)


def sound_pathways(model: RoutedModel, states: Sequence[State], kind: PathwayKind = "weights") -> Tensor:
    """``[B, L, E]`` the pathway that the sound routers give the token where ω acts, behind prompts as the faulty model
    read them; up to the first broken layer the model's own.

    Raises:
        SettingError: the model has no known fault, or one that is nowhere.
    """
    without, broken = sound(model), known_fault(model).fault.broken
    if not broken:
        raise SettingError("Expected a fault in some layer, got one that changes nothing.")
    return without.pathways_behind(states, kind, model.layers.index(broken[0]))


def truth_of(model: RoutedModel, states: Sequence[State], kind: PathwayKind = "weights") -> FaultTruth:
    """What the fault did to prefilled prompts.

    Raises:
        SettingError: the model has no known fault.
    """
    fault = known_fault(model).fault
    own = torch.stack([state.own if kind == "weights" else state.router for state in states])
    broken = torch.tensor([layer in fault.broken for layer in model.layers])
    found = sound_pathways(model, states, kind) if fault.broken else own
    moved = ((_shares(found) - _shares(own)).abs() > SAME).any(-1, keepdim=True)
    return FaultTruth(broken, torch.where(moved & broken[:, None], found, own))


def _shares(weights: Tensor) -> Tensor:
    """``[..., E]`` what each expert has of its layer's mass."""
    return weights / weights.sum(-1, keepdim=True)
