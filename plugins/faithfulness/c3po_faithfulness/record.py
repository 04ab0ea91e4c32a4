"""The record of a study of faithfulness: a score of layers on a question, or what each layer really does to it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from c3po_adaptive.study import Record

Role = Literal["method", "bound", "control"]
"""``bound``: it looks at a label, or re-mixes every layer; ``control``: it looks at nothing."""


class ScoreRecord(Record):
    """the record of a score of layers, or of the truth

    Attributes:
        kind: of question.
        role: what the score is there for; of the truth nothing.
        values: ``[L]`` what the score gives each layer.
        insertion: by how much the loss falls with the best k layers, at each of the curve's points k.
        deletion: by how much it falls with all but those.
        cost: in base forwards.
        effects: of the truth: ``[L]`` of each of its names.
        together: of the truth: the effect of all layers.
        other_neighbours: rank correlation with the score by other neighbours; None: not probed.
        other_seed: with that by another seed.
        infidelity: Captum's.
        sensitivity: Captum's.
        seconds: of the truth: the question's share of the time that its batch took, all scores included.
    """

    kind: str
    role: Role | None = None
    values: tuple[float, ...] = ()
    insertion: tuple[float, ...] = ()
    deletion: tuple[float, ...] = ()
    cost: float = 0.0
    effects: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    together: float | None = None
    other_neighbours: float | None = None
    other_seed: float | None = None
    infidelity: float | None = None
    sensitivity: float | None = None
    seconds: float = 0.0
