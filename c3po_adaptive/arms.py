"""An arm is whatever answers questions: here, a remixer with its strategies by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from .errors import UnknownNameError
from .registry import ROLES, Registry
from .types import Head, Labels, LearnFrom, Mix, Scope, Target, Transfer

Spec = str | dict[str, Any]


class Arm(BaseModel):
    """The strategies of one arm, as names or as ``{name: …, parameter: …}``; see ``Remixer`` for the rest.

    Attributes:
        seed: None for that of the run; another one draws the same control again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Spec = "ngd"
    kernel: Spec = "gaussian"
    retriever: Spec = "faiss-knn"
    selector: Spec = "fixed"
    scope: Scope = "answer"
    transfer: Transfer = "replace"
    target: Target = "choices"
    head: Head = "tangent"
    mix: Mix = "core"
    learn_from: LearnFrom = "successful"
    labels: Labels = "own"
    seed: int | None = Field(default=None, ge=0)

    @field_validator("optimizer", "kernel", "retriever", "selector", mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        """Parameters alone belong to the default strategy: ``optimizer: {steps: 5}``."""
        default = cls.model_fields[str(info.field_name)].default
        return {"name": default, **value} if isinstance(value, dict) else value

    def ways(self) -> dict[str, Any]:
        """How pathways act and what is learned from, as a ``Remixer`` takes it: all but the strategies."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in {*ROLES, "seed"}}

    def seed_in(self, run: int) -> int:
        """Its own seed, or that of the run."""
        return run if self.seed is None else self.seed


def strategies_of(arm: Arm, registry: Registry) -> dict[str, Any]:
    """An arm's strategies by role."""
    return {role: registry.create(role, getattr(arm, role)) for role in ROLES}


_AMORTISED: dict[str, Any] = {
    "optimizer": {"name": "amortised-ngd", "lr": 0.1},
    "retriever": {"name": "faiss-knn", "k": 300},
    "learn_from": "all",
    "target": "lead",
}
_CHOSEN: dict[str, Any] = {"name": "amortised", "n": 8, "experts": None}
# The setting that validation chose in studies/fixed_vs_adaptive, and its controls: references with labels drawn at
# random, and as many random layers.
_ADAPTIVE = Arm(**_AMORTISED, selector=_CHOSEN)
_SHUFFLED_LABELS = Arm(**_AMORTISED, selector=_CHOSEN, labels="shuffled")
_RANDOM_LAYERS = Arm(**_AMORTISED, selector={"name": "random", "n": 8, "experts": None})

DEMO_ARMS: Mapping[str, Arm] = {
    "base": Arm(optimizer="none", selector={"name": "fixed", "n": 0}),
    "kernel-regression": Arm(optimizer="kernel-regression"),
    "mode-finding": Arm(optimizer="mode-finding"),
    "ngd": Arm(optimizer="ngd"),
    "ngd-attribution": Arm(optimizer="ngd", selector="attribution"),
    "ngd-random-neighbours": Arm(optimizer="ngd", retriever="random"),
    "adaptive": _ADAPTIVE,
    "adaptive-shuffled-labels": _SHUFFLED_LABELS,
    "adaptive-random-layers": _RANDOM_LAYERS,
    "oracle": Arm(optimizer="oracle"),
}

DEMO_HEADLINE = "adaptive"
DEMO_COMPARED = tuple(("adaptive", other) for other in ("ngd", "adaptive-shuffled-labels", "adaptive-random-layers"))


def arms_by_name(names: list[str], registry: Registry) -> dict[str, Arm]:
    """Some of the demo's arms; any other optimizer's name is an arm in the fixed setting, any other selector's one of
    NGD in the layers that it selects.

    Raises:
        UnknownNameError: a name that is none of them.
    """
    from difflib import get_close_matches

    known = {name: Arm(selector=name) for name in registry.names("selector")}
    known |= {name: Arm(optimizer=name) for name in registry.names("optimizer")} | dict(DEMO_ARMS)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known arms: {', '.join(known)}."
            raise UnknownNameError(f"Expected the name of an arm, got {name!r}; {hint}")
    return {name: known[name] for name in names}
