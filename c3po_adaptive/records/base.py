"""What every record of a run is, and what its fields may be."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from ..storage.json_files import SCHEMA, Ours

Whole = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Real = Annotated[float, Field(ge=-(2**63), lt=2**63)]
"""What 64 bits hold, as tables keep it."""
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Layer = Annotated[int, Field(ge=0, lt=10**6)]
Expert = Annotated[int, Field(ge=0, lt=2**16)]

Key = tuple[str, str, str, int]
"""Arm, data set, id, seed: what is answered once."""


class Part(Ours):
    """What a record is made of: frozen, finite, and no other fields than it declares."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(Part):
    """A mean over data sets, and its 95 % interval over questions."""

    mean: float
    ci_low: float
    ci_high: float


class Record(Part):
    """a record

    Attributes:
        schema_version: of what it holds.
        arm: what answered; or a score, or an audit.
        dataset: name of the data set.
        id: of the question.
        seed: of what was drawn: the run's, and as many more as the draw's number.
    """

    schema_version: Annotated[int, Field(le=SCHEMA)] = SCHEMA
    arm: str
    dataset: str
    id: str
    seed: Whole

    @property
    def key(self) -> Key:
        """What is answered once."""
        return self.arm, self.dataset, self.id, self.seed
