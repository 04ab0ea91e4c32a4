"""Experts as what PEFT's LoraConfig is told, so that these get adapters and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from c3po_adaptive import RoutedModel, SettingError

from .adapter_targets import base_modules, peft_targets
from .choice import USUAL, WRITTEN, by_layer, chosen
from .ranking import Ranking

Wanted = Mapping[int, Collection[int] | None]


def lora_targets(
    model: RoutedModel | nn.Module,
    experts: Wanted | Ranking | str | Sequence[str],
    target: str | Sequence[str] | None = None,
) -> dict[str, list[str]]:
    """Keys of a ``LoraConfig`` by which some experts are adapted: ``LoraConfig(r=8, **lora_targets(model, experts))``.

    Where experts are modules, ``target_modules`` are the linear ones of exactly these. Where the experts of a layer
    lie together in its parameters, PEFT adapts a parameter whole: ``target_parameters`` are those of all experts of
    these layers. Names are whole, for PEFT's ``layers_to_transform`` says nothing of parameters.

    Args:
        model: that adapters are put into: a ``RoutedModel``, or one of transformers; one that has adapters of PEFT
            already is named as it was without them.
        experts: of each decoder layer the experts, None: all of them; or a ``Ranking`` of ``rank_experts``; or, without
            one, as a text or several: ``3,5@16``, experts 3 and 5 of layer 16.
        target: which of a ranking: ``most:1`` (the default) or ``least:1`` of each layer, ``costly:4``, those whose ban
            costs most, or ``3,5@16``; a text or several, as ``--target`` of ``c3po experts``.

    Raises:
        SettingError: no experts; a layer or an expert that the model does not have; a text that is no target, or that
            needs a ranking; or a model in a wrapper.
        ModelError: PEFT cannot adapt the family's experts.
    """
    inner: Any = model.model if isinstance(model, RoutedModel) else model
    inner = getattr(inner, "get_base_model", lambda: inner)()  # of PEFT's wrapper what it wraps
    modules = {
        name: place for name, part in base_modules(inner) if isinstance(part, nn.Linear) if (place := _place(name))
    }
    held: dict[str, tuple[int, int]] = {}
    if not modules:
        if not isinstance(inner, PreTrainedModel):
            raise SettingError(
                f"Expected a model of transformers, or one whose experts are modules, got {type(inner).__name__}; give "
                "the model without what it is wrapped in."
            )
        held = dict(_parameters(inner))
    together = ((layer, expert) for layer, count in held.values() for expert in range(count))
    known = by_layer({*modules.values(), *together})
    wanted = _wanted(experts, target, known)
    _check(wanted, known)
    if modules:
        return {"target_modules": [name for name, place in modules.items() if _among(place, wanted)]}
    return {"target_modules": [], "target_parameters": [name for name, (layer, _) in held.items() if layer in wanted]}


def _wanted(
    experts: Wanted | Ranking | str | Sequence[str],
    target: str | Sequence[str] | None,
    known: Mapping[int, Sequence[int]],
) -> Wanted:
    """Experts by layer, of whatever names them; ``known`` are those of the model."""
    if isinstance(experts, Ranking):
        which = target or USUAL
        return experts.chosen(*([which] if isinstance(which, str) else which))
    if target is not None:
        raise SettingError(
            f"Expected a Ranking beside target={target!r}, got {type(experts).__name__}; give that of rank_experts, or "
            "leave target out."
        )
    if isinstance(experts, Mapping):
        return experts
    texts = [experts] if isinstance(experts, str) else experts
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise SettingError(
            f"Expected experts by layer, such as {{16: [3, 5], 27: None}}, a Ranking or {WRITTEN}; got {experts!r:.60}."
        )
    if ranked := [text for text in texts if "@" not in text]:
        raise SettingError(
            f"Expected a Ranking for {ranked[0]!r}, got none; say lora_targets(model, rank_experts(model, texts), "
            f"{ranked[0]!r})."
        )
    return by_layer(chosen(texts, known))


def _place(name: str) -> tuple[int, int] | None:
    """Layer and expert of a module in ``layers.16.mlp.experts.3.up_proj`` or ``…experts.gate_up_projs.3``."""
    before, found, behind = f".{name}.".partition(".experts.")
    numbers = [[int(part) for part in side.split(".") if part.isdigit()] for side in (before, behind)]
    return (numbers[0][0], numbers[1][0]) if found and [len(each) for each in numbers] == [1, 1] else None


def _parameters(model: PreTrainedModel) -> Iterable[tuple[str, tuple[int, int]]]:
    """Names of parameters that hold the experts of a layer, with its index and how many they are."""
    suffixes = [f".{name}" for name in peft_targets(model).target_parameters]
    for name, parameter in model.named_parameters():
        name = name.replace(".base_layer", "")  # of PEFT's adapters
        for suffix in suffixes:
            if name.endswith(suffix):
                yield name, (int(name.removesuffix(suffix).rpartition(".")[2]), len(parameter))


def _among(place: tuple[int, int], experts: Wanted) -> bool:
    layer, expert = place
    some = experts.get(layer, ())
    return some is None or expert in some


def _check(experts: Wanted, known: Mapping[int, Sequence[int]]) -> None:
    if not experts or any(some is not None and not some for some in experts.values()):
        raise SettingError(f"Expected experts of each layer, or None for all, got {dict(experts)}; leave a layer out.")
    if missing := [layer for layer in experts if layer not in known]:
        raise SettingError(
            f"Expected layers among {', '.join(map(str, known))}, which have experts, got {missing[0]}; take some of "
            "these."
        )
    for layer, some in experts.items():
        if missing := sorted({*(some or ())} - {*known[layer]}):
            raise SettingError(
                f"Expected experts of layer {layer} from 0 to {max(known[layer])}, got {missing[0]}; take others."
            )
