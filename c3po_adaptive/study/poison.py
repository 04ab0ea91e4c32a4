"""``Poison``: what is wrong with a data set on purpose, as its configuration says it, and what comes of an attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..settings import Settings
from ..types import Question

FILTER = 0.95
"""The cosine above which references are not used by default (``RemixSettings.max_similarity``): crafted texts stay
below it."""


class Poison(Settings):
    """What is wrong with a data set on purpose.

    Attributes:
        attack: what was done, by the name of a plugin's attack: ``flipped-labels``, ``near-duplicates``,
            ``crafted-neighbours``, ``typos``, ``second-topic`` or ``long-preamble``, of ``plugins/poison``, say.
        share: of all references that are poisoned, those that were added counted; or of the questions, where these are
            distracted. What a smaller share poisons, a larger one poisons, too.
        seed: of what is drawn.
        similarity: how near a crafted text has to come to its question, as a cosine; one that does not is not added.
        budget: texts that may be embedded for each crafted one.
    """

    called: ClassVar[str] = "a data set's poison"

    attack: str
    share: Annotated[float, Field(ge=0, le=1)]
    seed: int = Field(default=0, ge=0)
    similarity: Annotated[float, Field(gt=0, le=FILTER)] = 0.8
    budget: int = Field(default=32, ge=1)


@dataclass(frozen=True)
class Poisoned:
    """A data set after an attack.

    Attributes:
        questions: that are asked.
        references: that may be learned from: those that there were, in their order, under any labels, and behind them
            what was added. Of these alone the model is run again.
        told: what was done, in a sentence.
    """

    questions: Sequence[Question]
    references: Sequence[Question]
    told: str


Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors ``[N, D]``, by the embedder of the study's retrieval."""
Attack = Callable[[Poison, tuple[Question, ...], tuple[Question, ...], Encode], Poisoned]
"""What ``register_attacks`` brings: what the configuration says, the questions, the references and the embedder to what
they are after it. It has to be the same whenever it is asked for."""
