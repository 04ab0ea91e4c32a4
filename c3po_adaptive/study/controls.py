"""The controls that an arm's gain has to be told from, as arms; ``analysis.controls`` recognizes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arms import Arm
from .config import Spec

_DESCENTS = ("ngd", "amortized-ngd")
_STEPS = ("steps", "lr", "lr_end", "step", "parametrization", "tolerance")


def with_controls(arms: Mapping[str, Any], controlled: tuple[str, ...]) -> dict[str, Any]:
    """Plain values of arms, and of the controls of some; one whose name is taken is that arm.

    A re-mixing arm gets random neighbours (as many), labels drawn at random, changes of the same size in random
    directions, and, if it chooses layers, as many random ones. Any other answerer gets labels drawn at random. Beside
    them stand, once for all, one change for all questions by the same steps, the base with its scores corrected by a
    logit of surface features, and the core experts mixed without a step.
    """
    found = dict(arms)
    for name in controlled:
        if isinstance(plain := arms.get(name), Mapping):
            for control, values in _controls(Arm(**plain)).items():
                found.setdefault(control.format(name), {**plain, **values})
    return found


def _controls(arm: Arm) -> dict[str, dict[str, Any]]:
    """What each changes, by its name, where {} stands for the arm's."""
    own: dict[str, dict[str, Any]] = {"{}, shuffled labels": {"labels": "shuffled"}}
    if arm.name_of("answerer") == "remix":
        own["{}, random neighbours"] = {"retriever": {"name": "random", **_some(arm.retriever, "k")}}
        own["{}, random change"] = {"optimizer": {"name": "random-change", "of": arm.optimizer}}
        if _some(arm.selector, "layers") != {"layers": "all"}:
            own["{}, random layers"] = {"selector": {"name": "random", **_some(arm.selector, "n", "experts")}}
    steps = _some(arm.optimizer, *_STEPS) if arm.name_of("optimizer") in _DESCENTS else {}
    plain = {"answerer": "remix"}
    return own | {
        "constant": plain | {"optimizer": {"name": "constant", **steps}},
        "calibrated": {"answerer": "surface-logit", "optimizer": "none"},
        "core mixed": plain | {"optimizer": {"name": "none", "start": "core"}},
    }


def _some(spec: Spec, *names: str) -> dict[str, Any]:
    """Parameters of a strategy, as far as they are given."""
    return {name: spec[name] for name in names if name in spec} if isinstance(spec, dict) else {}
