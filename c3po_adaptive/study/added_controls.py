"""What an arm's gain has to be told from, and what it could have reached, as arms that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..errors import UnknownNameError
from ..optimizers.base import SteppingOptimizer
from ..registry import default_registry
from .arms import Arm
from .study_config import Spec

_CONSTANT = "constant"


def with_controls(arms: Mapping[str, object], controlled: tuple[str, ...]) -> dict[str, object]:
    """Plain values of arms, and of the controls and the upper bound of some; one whose name is taken is that arm.

    A re-mixing arm gets random neighbours (as many), labels drawn at random, changes of the same size in random
    directions, if it chooses a number of layers, as many random ones, and if it learned from rewards or from gradients,
    what learned from random ones, or from those of others. Any other answerer gets labels drawn at random. One that
    takes steps gets its oracle, which is no control: it is the arm with the label known.

    Beside all of them stand the base with its scores corrected by a logit of surface features, the core experts mixed
    without a step, and one change for all questions, by the first arm's steps; an arm with other steps gets one by its
    own.
    """
    found = dict(arms)
    for name in controlled:
        if isinstance(plain := arms.get(name), Mapping):
            arm = Arm(**plain)
            steps, remixes = _steps(arm.optimizer), arm.name_of("answerer") == "remix"
            stepping = _stepping(arm.optimizer) is not None
            for control, values in _own(arm).items():
                found.setdefault(f"{name}, {control}", {**plain, **values, "control_of": [name]})
            if stepping and remixes:
                found.setdefault(f"{name}, oracle", {**plain, "optimizer": {"name": "oracle", "of": arm.optimizer}})
            for control, values in _of_all(steps).items():
                found.setdefault(control, {**plain, **values})
            if steps and remixes and not _by(steps, found[_CONSTANT]):
                found.setdefault(f"{name}, {_CONSTANT}", {**plain, **_of_all(steps)[_CONSTANT]})
    return found


def _own(arm: Arm) -> dict[str, dict[str, object]]:
    """What each of an arm's own controls changes, by its name."""
    own: dict[str, dict[str, object]] = {"shuffled labels": {"labels": "shuffled"}}
    if arm.name_of("answerer") == "remix":
        own["random neighbours"] = {"retriever": {"name": "random", **_some("retriever", arm.retriever, "k")}}
        own["random change"] = {"optimizer": {"name": "random-change", "of": arm.optimizer}}
        own |= _layers(arm) | _learned(arm)
    return own


def _of_all(steps: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """What each of the controls changes that all arms have, by its name."""
    plain = {"answerer": "remix"}
    return {
        _CONSTANT: plain | {"optimizer": {"name": "constant", **steps}},
        "calibrated": {"answerer": "surface-logit", "optimizer": "none"},
        "core mixed": plain | {"optimizer": {"name": "none", "start": "core"}},
    }


def _steps(optimizer: Spec) -> dict[str, object]:
    """Those of an optimizer that takes them, by the one that takes them once for all questions; {}: there is none."""
    strategy = _stepping(optimizer)
    if strategy is None or not strategy.one_for_all:
        return {}
    shared = (f.name for f in fields(default_registry().get("optimizer", strategy.one_for_all)) if f.repr)
    return {"name": strategy.one_for_all, **_some("optimizer", optimizer, *shared)}


def _stepping(optimizer: Spec) -> type[SteppingOptimizer] | None:
    """An optimizer that takes steps; None of any other, and of a plugin's that is not loaded yet."""
    name = optimizer if isinstance(optimizer, str) else str(optimizer["name"])
    try:
        strategy = default_registry().get("optimizer", name)
    except UnknownNameError:
        return None
    return strategy if issubclass(strategy, SteppingOptimizer) else None


def _by(steps: Mapping[str, object], constant: object) -> bool:
    """Whether an arm takes just these steps; what is no arm is refused elsewhere."""
    return not isinstance(constant, Mapping) or _steps(Arm(**constant).optimizer) == steps


def _layers(arm: Arm) -> dict[str, dict[str, object]]:
    """Random layers, as many; none of what takes all, or as many as each question asks for."""
    known = _some("selector", arm.selector, "layers", "n", "experts")
    listed = known.pop("layers", None)
    if isinstance(listed, list | tuple):
        known["n"] = len(listed)
    if listed == "all" or known.get("n") is None:
        return {}
    return {"random layers": {"selector": {"name": "random", **known}}}


def _learned(arm: Arm) -> dict[str, dict[str, object]]:
    """What learned, from nothing: a policy from random rewards, teachers and weights from gradients of others."""
    found: dict[str, dict[str, object]] = {}
    if _some("selector", arm.selector, "reward"):
        found["random rewards"] = {"selector": _with(arm.selector, reward="random")}
    for role in ("retriever", "kernel"):
        spec = arm.specs[role]
        if _some(role, spec, "shuffled"):
            found[f"shuffled {role}"] = {role: _with(spec, shuffled=True)}
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
