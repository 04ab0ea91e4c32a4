"""``Poison``: what is wrong with a data set on purpose, as its configuration says it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ..settings import Settings

Attack = Literal["flipped-labels", "near-duplicates", "crafted-neighbours", "typos", "second-topic", "long-preamble"]
"""Some references with a wrong choice called right; near-duplicates of questions with wrong choices called right, added
to the references; texts written to lie near questions, added with the answer that the references vote for least; and
questions with typos, after another question, or after a paragraph about something else."""
INSERTING: tuple[Attack, ...] = ("near-duplicates", "crafted-neighbours")
"""Attacks that add references."""
FILTER = 0.95
"""The cosine above which references are not used by default (``RemixSettings.max_similarity``): crafted texts stay
below it."""


class Poison(Settings):
    """What is wrong with a data set on purpose.

    Attributes:
        attack: what was done.
        share: of all references that are poisoned, those that were added counted; or of the questions, where these are
            distracted. What a smaller share poisons, a larger one poisons, too.
        seed: of what is drawn.
        similarity: how near a crafted text has to come to its question, as a cosine; one that does not is not added.
        budget: texts that may be embedded for each crafted one.
    """

    called: ClassVar[str] = "a data set's poison"

    attack: Attack
    share: Annotated[float, Field(ge=0, le=1)]
    seed: int = Field(default=0, ge=0)
    similarity: Annotated[float, Field(gt=0, le=FILTER)] = 0.8
    budget: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.attack in INSERTING and self.share == 1:
            raise ValueError(f"expected share below 1 of {self.attack}, which are added to the references, got 1")
        return self
