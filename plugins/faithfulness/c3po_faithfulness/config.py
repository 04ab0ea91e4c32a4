"""The configuration of a study of faithfulness."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from c3po_adaptive.study import Datasets, OnOneArm, Spec

CORE = 20
"""The paper's core experts; of a layer that has fewer, all."""


class FaithfulnessConfig(OnOneArm):
    """Which layers matter to validation questions, and which scores find them.

    Attributes:
        kind: of study.
        arm: how questions are re-mixed; its selector is not used.
        scores: selectors that score layers, by name.
        experts: core experts of each layer, in re-mixing and in scores.
        neighbours: whether what layers do to the neighbours' loss is looked at, too: long, with hundreds of them.
        beside: a model that differs in its routers alone, which are taken to be right: each layer's is exchanged.
        marked: decoder layers that a score should put first, as those whose routers were broken.
        n: how many layers are compared as chosen.
        points: numbers of layers of the insertion and deletion curves.
        probed: so many questions of each data set (whole batches) are scored with other neighbours and seeds, too, and
            go through Captum's own tests.
        moves: how often infidelity moves each pathway; sensitivity does a quarter as often.
    """

    called: ClassVar[str] = "a study of faithfulness"

    kind: Literal["faithfulness"]
    datasets: Datasets
    scores: dict[str, Spec]
    experts: int = Field(default=CORE, ge=1)
    neighbours: bool = True
    beside: str | None = None
    marked: tuple[int, ...] = ()
    n: int = Field(default=5, ge=1)
    points: tuple[int, ...] = (1, 3, 5, 8)
    probed: int = Field(default=32, ge=0)
    moves: int = Field(default=8, ge=1)

    @field_validator("scores")
    @classmethod
    def _named(cls, value: dict[str, Spec]) -> dict[str, Spec]:
        taken = {"truth", "last layers", "random layers"} & value.keys()
        if not value or taken:
            raise ValueError(f"expected scores by other names than {', '.join(sorted(taken)) or '(none)'}")
        return value

    @field_validator("marked")
    @classmethod
    def _once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"expected each marked layer once, in order, got {list(value)}")
        return value

    @field_validator("points")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or list(value) != sorted(set(value)) or value[0] < 1:
            raise ValueError(f"expected rising numbers of layers from 1 on, got {list(value)}")
        return value
