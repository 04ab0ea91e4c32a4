"""What a study of known faults tells: what each fault lost, and what each arm found and won back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from c3po_adaptive.study import SCHEMA, Interval, Ours

Told = Interval | None
"""An interval; None where nothing can be told."""
ENDS = {"mean": "", "ci_low": "_ci_low", "ci_high": "_ci_high"}
"""What the parts of an interval are called in files, behind its name."""


class _Flat(Ours):
    """Whose intervals stand flat in files."""

    @model_serializer(mode="wrap")
    def _flat(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in plain(self).items():
            if type(self).model_fields[name].annotation == Told:
                found |= {f"{name}{end}": value and value[part] for part, end in ENDS.items()}
            elif value is not None or not name.endswith("_holm"):
                found[name] = value
        return found

    @model_validator(mode="before")
    @classmethod
    def _of_flat(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        names = [
            name for name, field in cls.model_fields.items() if field.annotation == Told and f"{name}_ci_low" in given
        ]
        parts = {name: {part: given.get(f"{name}{end}") for part, end in ENDS.items()} for name in names}
        used = {f"{name}{end}" for name in names for end in ENDS.values()}
        nested = {name: None if value["mean"] is None else value for name, value in parts.items()}
        return {name: value for name, value in given.items() if name not in used} | nested


class _At(_Flat):
    """A dose of a fault on a data set, or on ``all``, the mean over them."""

    dataset: str
    fault: str
    dose: float
    layers: tuple[int, ...]


class LostRow(_At):
    """What a fault lost: accuracy in points, and the loss of the right choice in nats.

    Attributes:
        concerned: questions that the fault routes otherwise.
        loss_in_reach: within reach of tokens that ω acts on.
    """

    n: int
    concerned: int
    sound_accuracy: float
    accuracy: float
    lost: Told
    loss_lost: Told
    loss_in_reach: Told


class FoundRow(_At):
    """What an arm found and won back.

    Attributes:
        role: ``bound``: it is told the fault or the label; ``control``; ``method``.
        chance: share of layers that are the fault's.
        chosen: share of questions that each layer was re-mixed for.
        auc: chance that a layer of the fault scores above another; ``auc_rise``: more than where nothing is planted.
        auc_p: of both; ``auc_p_holm``: after Holm's correction over methods, faults and doses. Likewise of ``gain``.
        harm: where no fault is, in points.
        won_back: share of what was lost; None of what is not shown to be lost.
    """

    selector: str
    optimizer: str
    role: Literal["bound", "control", "method"]
    n: int
    concerned: int
    chance: float
    chosen: tuple[float, ...]
    auc: Told
    auc_rise: Told
    precision: Told
    recall: Told
    auc_p: float | None
    expert_precision: Told
    expert_recall: Told
    cosine: Told
    gain: Told
    loss_gain: Told
    gain_rise: Told
    gain_p: float | None
    harm: Told
    won_back: Told
    loss_won_back: Told
    loss_won_back_in_reach: Told
    finds: str
    mends: str
    auc_p_holm: float | None = None
    gain_p_holm: float | None = None


class FaultsSummary(Ours):
    """the summary of a study of known faults"""

    schema_version: int = SCHEMA
    kind: Literal["faults"] = "faults"
    config: dict[str, object]
    decoder_layers: tuple[int, ...] = Field(min_length=1)
    faults: tuple[LostRow, ...] = Field(min_length=1)
    rows: tuple[FoundRow, ...] = Field(min_length=1)
    hashes: dict[str, object] = Field(default_factory=dict)
