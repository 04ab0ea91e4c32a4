"""The configuration of a study of known faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from c3po_adaptive.study import Arm, ComparisonConfig, Datasets, OnOneArm, OnQuestions, Settings, Spec

from .faults import Fault, Kind, concerns_of, layers_of

BASE = "base"
REACH = "undone"
"""The arm that routes soundly wherever ω acts: what could be won back."""
SOUND = "sound"
"""The cell of the model without any fault: that of dose zero, which all faults share."""


def cell_of(fault: str, dose: float) -> str:
    """What a faulty model is called."""
    return f"{fault}, dose {dose:g}" if dose else SOUND


class FaultSpec(Settings):
    """What is planted, by doses.

    Attributes:
        kind: what becomes of experts' router rows: ``exchange``, ``weaken``, ``strengthen`` or ``noise``.
        layers: where: ``last-N``, ``first-N``, ``spread-N``, ``all``, ``none``, or decoder layers.
        pairs: of experts that are exchanged.
        experts: that are weakened or strengthened, or whose rows are noisy.
        doses: how much; 0, the sound model, is always looked at, too.
        seed: of noise.
        concerns: kinds of questions that experts are for, by expert.
    """

    called: ClassVar[str] = "a fault"

    kind: Kind = "exchange"
    layers: str | tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    experts: tuple[int, ...] = ()
    doses: tuple[float, ...] = (1.0,)
    seed: int = 0
    concerns: dict[int, str | tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("doses")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or list(value) != sorted(set(value)):
            raise ValueError(f"expected rising doses, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _can_be(self) -> FaultSpec:
        for dose in self.doses:
            self.fault((), dose)
        return self

    def fault(self, layers: Sequence[int], dose: float) -> Fault:
        """Of a model with these MoE layers.

        Raises:
            SettingError: a value that cannot be, or a place that the model does not have.
        """
        place = layers_of(self.layers, layers) if layers else ()
        concerns = concerns_of(self.concerns)
        return Fault(self.kind, place, self.pairs, self.experts, dose, self.seed, concerns)


class FaultsConfig(OnOneArm):
    """Known faults, and selectors and optimizers that are to find and mend them.

    Attributes:
        kind: of study.
        faults: what is planted, by name.
        selectors: which layers are re-mixed, by name.
        optimizers: how, by name; each is run with each selector.
        arm: what they have in common: retriever, kernel and settings; its own selector and optimizer are not used.
    """

    called: ClassVar[str] = "a study of known faults"

    kind: Literal["faults"]
    datasets: Datasets
    faults: dict[str, FaultSpec] = Field(min_length=1)
    selectors: dict[str, Spec] = Field(min_length=1)
    optimizers: dict[str, Spec] = Field(min_length=1)

    @field_validator("arm")
    @classmethod
    def _re_mixes(cls, value: Arm) -> Arm:
        if value.name_of("answerer") != "remix" or value.draws != 1:
            raise ValueError("expected an arm that re-mixes, drawn once")
        return value

    @model_validator(mode="after")
    def _told_apart(self) -> FaultsConfig:
        if len(self.parts) != len(self.cells) * (2 + len(self.selectors) * len(self.optimizers)):
            raise ValueError("expected names of faults, selectors and optimizers that stay apart when joined by ' | '")
        return self

    @property
    def arms(self) -> dict[str, tuple[str, str]]:
        """Selector and optimizer of each arm but the base, by its name; the first undoes the fault."""
        pairs = ((s, o) for s in self.selectors for o in self.optimizers)
        named = {f"{selector} | {optimizer}": (selector, optimizer) for selector, optimizer in pairs}
        return {REACH: ("fault-layers", "sound-routing")} | named

    @property
    def cells(self) -> dict[str, tuple[str, float] | None]:
        """Fault and dose of each model that is asked, by its name; None: the sound one."""
        planted = ((name, dose) for name, spec in self.faults.items() for dose in spec.doses if dose > 0)
        return {SOUND: None} | {cell_of(name, dose): (name, dose) for name, dose in planted}

    @property
    def parts(self) -> dict[str, tuple[str, str]]:
        """Cell and arm of what records call an arm."""
        return {f"{cell} | {arm}": (cell, arm) for cell in self.cells for arm in (BASE, *self.arms)}

    @property
    def comparison(self) -> ComparisonConfig:
        """Of one cell: its arms on the same data sets."""
        given = self.model_dump(mode="json")
        shared = {name: given[name] for name in OnQuestions.model_fields}
        arms = {
            name: given["arm"] | {"selector": self.selectors[selector], "optimizer": self.optimizers[optimizer]}
            for name, (selector, optimizer) in self.arms.items()
            if name != REACH
        }
        told = {BASE: {"optimizer": "none"}, REACH: {"answerer": "sound-routing", "optimizer": "none"}}
        return ComparisonConfig(**shared, arms=told | arms, pathways=False)
