"""The controls that an arm's gain has to be told from, as arms that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..errors import UnknownNameError
from ..registry import default_registry
from .arms import Arm
from .study_config import Spec

_DESCENTS = ("ngd", "amortized-ngd")
_STEPS = ("steps", "lr", "lr_end", "step", "parametrization", "tolerance")


def with_controls(arms: Mapping[str, object], controlled: tuple[str, ...]) -> dict[str, object]:
    """Plain values of arms, and of the controls of some; one whose name is taken is that arm.

    A re-mixing arm gets random neighbours (as many), labels drawn at random, changes of the same size in random
    directions, if it chooses a number of layers, as many random ones, and if it learned from rewards or from gradients,
    what learned from random ones, or from those of others. Any other answerer gets labels drawn at random. Beside them
    stand, once for all, one change for all questions by the same steps, the base with its scores corrected by a logit
    of surface features, and the core experts mixed without a step.
    """
    found = dict(arms)
    for name in controlled:
        if isinstance(plain := arms.get(name), Mapping):
            for control, values in _controls(Arm(**plain)).items():
                own = {"control_of": [name]} if control.startswith("{}") else {}
                found.setdefault(control.format(name), {**plain, **values, **own})
    return found


def _controls(arm: Arm) -> dict[str, dict[str, object]]:
    """What each changes, by its name, where {} stands for the arm's."""
    own: dict[str, dict[str, object]] = {"{}, shuffled labels": {"labels": "shuffled"}}
    if arm.name_of("answerer") == "remix":
        own["{}, random neighbours"] = {"retriever": {"name": "random", **_some("retriever", arm.retriever, "k")}}
        own["{}, random change"] = {"optimizer": {"name": "random-change", "of": arm.optimizer}}
        own |= _layers(arm) | _learned(arm)
    steps = _some("optimizer", arm.optimizer, *_STEPS) if arm.name_of("optimizer") in _DESCENTS else {}
    plain = {"answerer": "remix"}
    return own | {
        "constant": plain | {"optimizer": {"name": "constant", **steps}},
        "calibrated": {"answerer": "surface-logit", "optimizer": "none"},
        "core mixed": plain | {"optimizer": {"name": "none", "start": "core"}},
    }


def _layers(arm: Arm) -> dict[str, dict[str, object]]:
    """Random layers, as many; none of what takes all, or as many as each question asks for."""
    known = _some("selector", arm.selector, "layers", "n", "experts")
    listed = known.pop("layers", None)
    if isinstance(listed, list | tuple):
        known["n"] = len(listed)
    if listed == "all" or known.get("n") is None:
        return {}
    return {"{}, random layers": {"selector": {"name": "random", **known}}}


def _learned(arm: Arm) -> dict[str, dict[str, object]]:
    """What learned, from nothing: a policy from random rewards, teachers and weights from gradients of others."""
    found: dict[str, dict[str, object]] = {}
    if _some("selector", arm.selector, "reward"):
        found["{}, random rewards"] = {"selector": _with(arm.selector, reward="random")}
    for role in ("retriever", "kernel"):
        spec = arm.specs[role]
        if _some(role, spec, "shuffled"):
            found[f"{{}}, shuffled {role}"] = {role: _with(spec, shuffled=True)}
    return found


def _with(spec: Spec, **parameters: Any) -> dict[str, object]:
    return (dict(spec) if isinstance(spec, dict) else {"name": spec}) | parameters


def _some(role: str, spec: Spec, *names: str) -> dict[str, object]:
    """Parameters of a strategy that has them, as they are given or as they are by default.

    Defaults of a plugin that is not loaded yet are not known: what is written alone counts.
    """
    given = dict(spec) if isinstance(spec, dict) else {"name": spec}
    try:
        strategy = default_registry().get(role, str(given["name"]))
    except UnknownNameError:
        usual = {}
    else:
        usual = {field.name: field.default for field in fields(strategy) if field.default is not MISSING}
    return {name: value for name, value in (usual | given).items() if name in names}
