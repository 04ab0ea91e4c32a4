"""What an audit writes: a row a question, and what is said of all of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from c3po_adaptive.study import Audit, Record

from .audit_words import in_words

Where = Literal["all tokens", "answers"]
"""Where an intervention acts: at every token, or at the prompt's last one and those of the options."""

ARM = "audit"


class Foretold(BaseModel):
    """A question that was left out, answered as the others teach.

    Attributes:
        scores: ``[R][C]`` at each of R rates.
        by_few: likewise, as a quarter of the others teach.
        layers: ``[R][L]`` nats that the others' step takes off its loss in each layer at each rate, to first order.
        flops: what that took, its share of what references teach included.
    """

    model_config = ConfigDict(frozen=True)

    scores: list[list[float]]
    by_few: list[list[float]]
    layers: list[list[float]]
    flops: float


class AuditRow(Record):
    """a question's row of an audit"""

    arm: str = ARM
    kind: str
    """Of question; "" where it says none."""
    answer: int
    """The right choice."""
    scores: list[float]
    """``[C]`` as the model routes."""
    trials: dict[str, list[float]]
    """``[C]`` along each trial, by its name."""
    reached: dict[str, list[float]]
    """``[C]`` along the oracle's pathway at each rate and selector, by its name; of some questions alone."""
    used: list[list[int]]
    """``[L, E]`` how many tokens of the prompt and its options each expert was used by."""
    bans: list[list[float]]
    """``[L, E]`` by how much the loss rises if the expert is banned at the answer's tokens; [] where none can be."""
    tokens: int
    """Scored tokens of the options."""
    fragile: list[int]
    """Ids of those whose change alone turns the answer; see ``fragile.py``."""
    cost: dict[str, float]
    """In base forwards, by what they were spent on."""
    costs: dict[str, float]
    """Of these each trial's and each descent's own, by its name."""
    foretold: Foretold | None = None
    """None where there are too few questions to leave one out of."""
    seconds: float
    """The question's share of its batch."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class AuditInterval(_Part):
    """A mean over questions with its 95 % interval."""

    value: float
    low: float
    high: float


class Base(Audit.Base):
    """The model as it routes: accuracy and chance in percent, ``p`` of being as right by guessing (exact)."""

    model_config = ConfigDict(frozen=True)

    accuracy: AuditInterval
    loss: AuditInterval
    chance: float
    p: float
    above_chance: bool


class Effect(_Part):
    """What an intervention changes: accuracy in points and loss in nats, paired with the model as it routes.

    Attributes:
        layer: the decoder layer it is in; None: all MoE layers.
        cost: in base forwards.
    """

    intervention: str
    where: Where
    layer: int | None
    n: int
    accuracy: AuditInterval
    loss: AuditInterval
    p: float
    cost: float


class Reached(_Part):
    """What descending the label's own loss reaches: the most that re-mixing by this rate and steps could.

    Attributes:
        rate: the first learning rate.
        of: whose usual one it is; "": nobody's.
        selector: which layers and experts it may change.
    """

    rate: float
    of: str
    selector: str
    steps: int
    n: int
    accuracy: AuditInterval
    loss: AuditInterval
    p: float
    cost: float


class Shared(_Part):
    """Mutual information between a layer's expert and the kind of question, as a share of the smaller entropy.

    Attributes:
        by_chance: the same with kinds drawn at random among the questions.
    """

    share: float
    by_chance: float


class LayerUse(_Part):
    """One MoE layer.

    Attributes:
        layer: decoder layer.
        load: ``[E]`` share of tokens and experts used, summing to one; questions count alike.
        entropy: of the load, as a share of that of an even one.
        kinds: what it tells of the kind; None where there are no kinds.
        ban: by how much the loss rises if its dearest expert is banned; None where none can be.
    """

    layer: int
    load: list[float]
    entropy: float
    kinds: Shared | None
    ban: float | None


class Ban(_Part):
    """An expert that is never chosen at the answer's tokens, and by how many nats the loss rises."""

    layer: int
    expert: int
    loss: AuditInterval


class Fragile(_Part):
    """Answer tokens whose change under permuted routers would turn the answer by itself.

    Attributes:
        tokens: share of the scored tokens.
        questions: share of questions with one at least.
        most: the most frequent: text, and in how many places.
    """

    tokens: float
    questions: float
    most: list[tuple[str, int]]


class ExpectedGain(_Part):
    """What a step for each question is foretold to gain, by each question left out; in points.

    Attributes:
        points: by all others.
        by_a_quarter: by a quarter of them.
        kinds: of question; over them the intervals are, where there are some.
        labels: how many others there are.
        rate: of the step that all would choose; 0: none.
        nats: that the step at that rate takes off a question's loss, to first order, over all layers.
        layers: of these, by decoder layer.
    """

    points: AuditInterval
    by_a_quarter: AuditInterval
    kinds: int
    labels: int
    rate: float
    nats: float
    layers: dict[int, float]


class AuditSummary(Audit):
    """the summary of an audit"""

    seed: int
    deep: bool
    experts: int
    """Of a layer."""
    top_k: int
    """Experts that a token uses, at most."""
    kinds: list[str]
    """Of question."""
    base: Base
    expected_gain: ExpectedGain | None = None
    """None where there are too few questions to leave one out of."""
    effects: list[Effect]
    reached: list[Reached]
    layers: list[LayerUse]
    bans: list[Ban]
    bans_exact: bool
    """Whether bans were carried out (``deep``), or told to first order, by gradient times weight."""
    fragile: Fragile | None
    left_out: dict[str, str]
    """What could not be had, or would have cost too much, and why."""
    cost: dict[str, float]
    """Mean base forwards a question, by what they were spent on."""
    seconds: float
    versions: dict[str, str | None]

    def __repr__(self) -> str:
        """In a few lines."""
        return in_words(self)

    __str__ = __repr__

    @property
    def total_cost(self) -> float:
        """Mean base forwards a question."""
        return sum(self.cost.values())

    def effect(self, intervention: str, where: Where, layer: int | None = None) -> Effect | None:
        """What an intervention changes, if it was tried."""
        found = (intervention, where, layer)
        return next((e for e in self.effects if (e.intervention, e.where, e.layer) == found), None)
