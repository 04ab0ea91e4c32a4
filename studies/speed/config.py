"""The configuration of a speed study: what is timed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import reduce
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from c3po_adaptive.remixing.presets import preset_named
from c3po_adaptive.settings import Scope
from c3po_adaptive.study import Settings, Spec

ROLES = ("optimizer", "selector", "retriever")


class Case(Settings):
    """One way of re-mixing, timed against the plain answer.

    Attributes:
        preset: strategies and settings that go together, by name; then none is named here.
        optimizer: how pathways are re-mixed.
        selector: where.
        retriever: finds the neighbours.
        scope: where ω acts; a preset has its own.
        format: how questions are put.
        shots: how many solved examples come before each.
        model: a name of ``models``, or one that ``load_moe_model`` knows.
        batch: questions answered together.
        references: how many there are.
        warm: their states are on disk beforehand.
        textbook: every step runs the neighbours' whole prompts again; two steps are timed, and the rest scaled.
    """

    preset: str | None = None
    optimizer: Spec = "ngd"
    selector: Spec = "fixed"
    retriever: Spec = "faiss-knn"
    scope: Scope = "answer"
    format: Literal["letter", "cloze"] = "letter"
    shots: int = Field(default=0, ge=0)
    model: str = "smollm2-moe"
    batch: int = Field(default=32, ge=1)
    references: int = Field(default=128, ge=8)
    warm: bool = True
    textbook: bool = False

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Case:
        if self.preset is not None and (named := {*ROLES, "scope"} & self.model_fields_set):
            expected = "a preset or strategies and a scope of its own"
            raise ValueError(f"expected {expected}, got {self.preset} and {sorted(named)}")
        return self

    @property
    def specs(self) -> Mapping[str, Spec]:
        """The strategy of each role that is named, or that its preset has."""
        return {role: getattr(self, role) for role in ROLES} if self.preset is None else preset_named(self.preset).specs


class Shape(Settings):
    """A random model.

    Attributes:
        family: of transformers, as ``olmoe``.
        dtype: of its weights.
        settings: of its configuration, over the family's defaults.
    """

    family: str
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    settings: dict[str, Any] = Field(default_factory=dict)


class Curve(Settings):
    """A case, over and over with other values of one of its settings.

    Attributes:
        over: the setting, as ``batch`` or ``optimizer.steps``.
        values: what it takes in turn.
        case: the rest.
    """

    over: str
    values: tuple[Any, ...]
    case: dict[str, Any] = Field(default_factory=dict)

    def cases(self, name: str) -> dict[str, Case]:
        """A case for each value, by name and value.

        Raises:
            SettingError: the setting is none of a case's.
        """
        found = {}
        for value in self.values:
            raw = copy.deepcopy(self.case)
            *path, key = self.over.split(".")
            reduce(lambda part, step: part.setdefault(step, {}), path, raw)[key] = value
            found[f"{name}={value}"] = Case(**raw)
        return found


class Search(Settings):
    """One search for neighbours, timed query by query and held against the exact one.

    Attributes:
        retriever: the strategy.
        references: how many: the demo's embeddings, over and over, each time moved at random.
        nearness: about the cosine of a moved embedding with where it was.
        queries: how many, moved likewise.
    """

    retriever: Spec = "faiss-ivf"
    references: int = Field(default=1_000_000, ge=100)
    nearness: float = Field(default=0.8, gt=0, le=1)
    queries: int = Field(default=200, ge=1)


class SpeedConfig(Settings):
    """What is timed, by name.

    Attributes:
        kind: of study.
        cases: see ``Case``.
        curves: see ``Curve``.
        models: random ones; see ``Shape``.
        searches: see ``Search``.
        repeats: how often each case is timed.
        only: names of those cases, curves and searches that are run now; empty: all. A study too long for one sitting
            is run in parts, into one folder.
    """

    called: ClassVar[str] = "a speed study"

    kind: Literal["speed"]
    cases: dict[str, Case] = Field(default_factory=dict)
    curves: dict[str, Curve] = Field(default_factory=dict)
    models: dict[str, Shape] = Field(default_factory=dict)
    searches: dict[str, Search] = Field(default_factory=dict)
    repeats: int = Field(default=5, ge=1)
    only: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _known(self) -> SpeedConfig:
        names = {*self.cases, *self.curves, *self.searches}
        if unknown := set(self.only) - names:
            raise ValueError(f"expected only to name some of {sorted(names)}, got {sorted(unknown)}")
        for name, curve in self.curves.items():
            curve.cases(name)
        return self

    def wanted(self, name: str) -> bool:
        """Whether it is run now."""
        return not self.only or name in self.only

    def all_cases(self) -> dict[str, Case]:
        """Cases, and those of curves, that are run now."""
        found = {name: case for name, case in self.cases.items() if self.wanted(name)}
        for name, curve in self.curves.items():
            found |= curve.cases(name) if self.wanted(name) else {}
        return found
