"""The record of an answer. Which fields there are, and how Parquet keeps each, is said here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..types import NO_CHOICE
from .base import Count, Expert, Layer, Part, Real, Record, Whole
from .setting import Setting


@dataclass(frozen=True)
class InParquet:
    """That Parquet keeps a field, and how; fields without it stand in JSONL alone.

    Attributes:
        type: of a value, or of each of several, as Arrow calls it.
        coded: ``words``: each once, in a dictionary; ``planes``: byte by byte; ``plain``.
        unit: numbers are counted in it, as whole ones.
    """

    type: str
    coded: Literal["plain", "words", "planes"] = "plain"
    unit: float | None = None


Phase = Annotated[Real, InParquet("int32", "planes", unit=1e-3)]
Text = Annotated[str, InParquet("string", "words")]


class AnswerCost(Part):
    """What an answer took, in base forwards of its question, by FLOPs."""

    prefill: Phase = 0.0
    embedding: Phase = 0.0
    retrieval: Phase = 0.0
    references: Phase = 0.0
    attribution: Phase = 0.0
    optimisation: Phase = 0.0
    answer: Phase = 0.0
    total: Real


class ScoredAnswer(Record):
    """a scored answer: all that statistics of answers and costs ask for

    Attributes:
        answer: the right choice.
        choice: the chosen one; -1: what was written is none.
        correct: whether they are the same.
        scores: of each choice.
        cost: what it took.
    """

    dataset: Text
    arm: Text
    id: Annotated[str, InParquet("string")]
    seed: Annotated[Whole, InParquet("int64", "words")]
    answer: Annotated[Whole, InParquet("int32")]
    choice: Annotated[Whole, InParquet("int32")]
    correct: bool
    scores: Annotated[tuple[Real, ...], Field(min_length=1), InParquet("int32", "planes", unit=1e-3)]
    cost: AnswerCost

    @model_validator(mode="after")
    def _one_of_its_choices(self) -> Self:
        if not 0 <= self.answer < len(self.scores) or not self.fewest <= self.choice < len(self.scores):
            raise ValueError(f"an answer or a choice that is none of {len(self.scores)}")
        if self.correct != (self.choice == self.answer):
            raise ValueError(f"choice {self.choice} where {self.answer} is right, called {self.correct}")
        return self

    @property
    def fewest(self) -> int:
        """The least number that a choice may have."""
        return 0

    @property
    def chance(self) -> float:
        """Of being right by guessing: one over the number of choices."""
        return 1 / len(self.scores)

    @property
    def likeliest_is_right(self) -> bool:
        """Whether the choice that scores call the likeliest is the right one: what confidence is held against."""
        return self.correct


class OfArm(Part):
    """what is the same for all answers of an arm on a data set, which Parquet keeps as one long word

    Attributes:
        setting: of the arm.
        needs_label: whether the arm looks at the right answer: an upper bound.
        once: what was spent before the first question, in base forwards; None: not recorded.
        labels: of how many references it could learn; None: likewise.
        parameters: how many were trained; None: likewise.
        chosen_by: what a choice is: the likeliest, or that of a text or of a letter which the model wrote.
    """

    setting: Setting
    needs_label: bool
    once: Real | None
    labels: Count | None
    parameters: Whole | None
    chosen_by: Literal["likelihood", "text", "letter"] = "likelihood"


class Answered(ScoredAnswer, OfArm):
    """the record of an answer, as Parquet keeps it

    Attributes:
        split: of the data set.
        subject: kind of the question; "": it has none.
        base_choice: the choice along the model's own pathway; None: it was not asked.
        layers: decoder layers that were re-mixed.
        strength: what spoke for re-mixing it at all; None: the selector weighed nothing.
        neighbours_used: how many references had a weight; None: not recorded.
        moved: share of the re-mixed layers' weight that lies on other experts than before; None: likewise.
    """

    split: Text
    subject: Text
    base_choice: Annotated[Whole | None, InParquet("int32")]
    layers: Annotated[tuple[Whole, ...], InParquet("int32", "words")]
    strength: Annotated[Real | None, InParquet("float", "planes")]
    neighbours_used: Annotated[Count | None, InParquet("int32", "words")]
    moved: Annotated[Real | None, InParquet("int32", "planes", unit=1e-4)]

    @model_validator(mode="after")
    def _a_choice_before(self) -> Self:
        if not self.fewest <= (self.base_choice or 0) < len(self.scores):
            raise ValueError(f"a choice of the base that is none of {len(self.scores)}")
        return self

    @property
    def fewest(self) -> int:
        """The least number that a choice may have: what was written may be none."""
        return 0 if self.chosen_by == "likelihood" else NO_CHOICE

    @property
    def chance(self) -> float:
        """Of being right by guessing: none where a text has to be written that the prompt does not list."""
        return 0.0 if self.chosen_by == "text" else super().chance

    @property
    def likeliest_is_right(self) -> bool:
        """Whether the choice that scores call the likeliest is the right one, whatever was written."""
        if self.chosen_by == "likelihood":
            return self.correct
        return self.scores.index(max(self.scores)) == self.answer


class LayerChange(Part):
    """Weights of a layer's experts, own and new, without those that are zero."""

    own: dict[Expert, float]
    new: dict[Expert, float]


class Neighbour(Part):
    """A reference that was learned from: cosine similarity to the question, and weight."""

    id: str
    similarity: Real
    weight: Real


class AnswerRecord(Answered):
    """the record of an answer

    Attributes:
        base_correct: whether the choice along the model's own pathway is right.
        base_scores: of each choice, along that.
        experts: by layer, those whose weight changed.
        raised: of these, those whose weight rose.
        layer_scores: what the selector gave each layer.
        pathway: what changed, by layer, if that is recorded.
        neighbours: nearest first, as many as are named.
        flops: by phase.
        seconds: the question's share of its batch.
        generated: what the model wrote, if a choice is what it wrote.
    """

    base_correct: bool | None
    base_scores: tuple[Real, ...]
    experts: dict[Layer, tuple[Expert, ...]]
    raised: dict[Layer, tuple[Expert, ...]]
    layer_scores: dict[Layer, Real]
    pathway: dict[Layer, LayerChange]
    neighbours: tuple[Neighbour, ...]
    flops: dict[str, Whole]
    seconds: Real
    generated: str | None = None

    @model_validator(mode="after")
    def _scores_before(self) -> Self:
        if self.base_choice is not None and len(self.base_scores) != len(self.scores):
            raise ValueError(f"{len(self.base_scores)} base scores for {len(self.scores)} choices")
        return self
