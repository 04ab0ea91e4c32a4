"""Passages before a question: which are near, and how it is put behind them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from c3po_adaptive import (
    AnsweringContext,
    Entry,
    Prompt,
    Question,
    Work,
    description,
)

from .language import strangers
from .passages import Passage

LATELY = 256  # questions whose passages are kept, so that a batch is placed once


PassageFile = Annotated[str, Field(min_length=1, description="name a file")]
"""The path of a file of passages."""

Training = Annotated[int, Field(ge=16)]
"""How many references are learned from."""


@dataclass(frozen=True)
class Told:
    """A question behind one passage, or behind none.

    Attributes:
        prompt: the tokens of both.
        passage: None: the question alone.
        similarity: cosine of the two.
        tokens: that the passage takes.
    """

    prompt: Prompt
    passage: Passage | None = None
    similarity: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, eq=False)
class PassageSearch:
    """Passages, and which of them are near.

    Attributes:
        passages: of the file.
        k: how many stand before a question.
        context: whose model, format and embedder are used.
        checked: filled once ``check`` has looked; shared by a search that ``replace`` makes for another context.
    """

    passages: Sequence[Passage]
    k: int
    context: AnsweringContext
    checked: list[bool] = field(default_factory=list, repr=False)

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return self.context.embedder.encode([passage.about for passage in self.passages])

    @cached_property
    def setup_flops(self) -> float:
        """FLOPs of embedding the passages."""
        return sum(self.context.embedder.flops(passage.about) for passage in self.passages)

    def searched(self, question: Question) -> Entry:
        """What looking for a question's passages takes."""
        return Entry(forward=Work(linear=self.context.embedder.flops(description(question))))

    def near(self, question: Question) -> list[tuple[Passage, float]]:
        """The k nearest that may be used, with their cosine, nearest first."""
        similarity = (self._vectors @ self.context.embedder.encode([description(question)])[0]).clip(-1, 1)
        allowed = similarity <= self.context.settings.max_similarity
        rows = [row for row in np.argsort(-similarity, kind="stable") if allowed[row]]
        found = [(self.passages[row], float(similarity[row])) for row in rows if self.passages[row].id != question.id]
        return found[: self.k]

    def put(self, question: Question) -> Prompt:
        """The question after as many of them as the context holds."""
        return self.placed(question)[0]

    @cached_property
    def placed(self) -> Callable[[Question], tuple[Prompt, list[tuple[Passage, float]]]]:
        """The same, and which these are: from the nearest on, each that still fits. The last ones are kept."""
        return lru_cache(maxsize=LATELY)(self._place)

    def _place(self, question: Question) -> tuple[Prompt, list[tuple[Passage, float]]]:
        near, shots = self.near(question), self.context.format.shots
        prompt = self.context.model.encode(question, self.context.format)
        used: list[tuple[Passage, float]] = []
        for one in near:
            told = tuple(passage.text for passage, _ in reversed([*used, one]))
            tried = self.context.with_shots(question, told + shots)
            if tried is not None:
                prompt, used = tried, [*used, one]
        if len(used) < len(near):
            warnings.warn(
                f"{len(near) - len(used)} of {len(near)} passages do not fit before {question.id!r}, and are left out; "
                "cut them into shorter ones.",
                stacklevel=2,
            )
        return prompt, used

    @cached_property
    def each(self) -> Callable[[Question], list[Told]]:
        """The question alone, and behind each of the k nearest passages that fit by themselves, nearest first."""
        return lru_cache(maxsize=LATELY)(self._told)

    def _told(self, question: Question) -> list[Told]:
        alone = self.context.model.encode(question, self.context.format)
        found = [Told(alone)]
        for passage, similarity in self.near(question):
            prompt = self.context.with_shots(question, (passage.text, *self.context.format.shots))
            if prompt is None:
                warnings.warn(
                    f"Passage {passage.id!r} does not fit before {question.id!r}, and is left out; cut it into shorter "
                    "ones.",
                    stacklevel=2,
                )
            else:
                found.append(Told(prompt, passage, similarity, len(prompt.ids) - len(alone.ids)))
        return found

    def check(self, questions: Sequence[Question]) -> None:
        """Warn, at the first questions, where passages are in another language, as far as can be told."""
        if self.checked or not questions:
            return
        self.checked.append(True)
        if said := strangers(
            [description(q) for q in questions], [passage.text for passage in self.passages], self.context.embedder
        ):
            warnings.warn(said, stacklevel=3)
