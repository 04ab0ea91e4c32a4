"""The neighbours' answers, copied: what has to be beaten before a model is said to have learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import Answerer, AnswererStrategy, Bench
from ..checks import check_number
from ..ledger import Entry, Ledger, Work
from ..remixing.clock import Clock
from ..tasks.formats import description
from ..types import Answer, Question
from ._references import finding_successes, references_of

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies


@dataclass(frozen=True)
class KnnLabel(AnswererStrategy):
    """The option whose text is most like the right answers of the nearest references (by the arm's retriever).

    Nearest-neighbour classification (Cover and Hart 1967, IEEE Trans. Inf. Theory 13:21) where options are texts: each
    scores Σ s_i cos(option, right answer i), s_i the reference's similarity to the question. Where options are the same
    few texts in every question, that is a vote for a label. The model is not asked; its plain answer only says what the
    question would have cost. Without neighbours all options are alike.

    Attributes:
        temperature: what the scores are divided by.
    """

    temperature: float = 0.1
    name: ClassVar[str] = "knn-label"

    def __post_init__(self) -> None:
        check_number(self, "temperature", above=0)

    def prepare(self, bench: Bench) -> Answerer:
        references = references_of(bench, self.name)
        right = [q.choices[q.answer] for q in references.questions if q.answer is not None]
        embedded = sum(map(bench.embedder.flops, right))
        return _Voter(self.temperature, bench, finding_successes(bench, references) + embedded)

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("retriever", "learn_from", "labels", "max_similarity", "seed")


@dataclass(frozen=True, eq=False)
class _Voter:
    temperature: float
    bench: Bench
    once: float
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of embedding it and its options."""
        clock = Clock(len(questions))
        with clock("retrieval"):
            near = self.bench.nearest(questions)
        found = []
        for question, neighbours, plain in zip(questions, near, self.bench.plain(questions), strict=True):
            with clock("embedding"):
                scores = self._scores(question, neighbours)
            flops = sum(map(self.bench.embedder.flops, [description(question), *question.choices]))
            ledger = Ledger(embedding=Entry(forward=Work(linear=flops)))
            voted = tuple((q.id, similarity, 1 / len(neighbours)) for q, similarity in neighbours)
            answer = replace(
                plain,
                choice=int(scores.argmax()) if neighbours else plain.choice,
                scores=tuple(scores.tolist()),
                ledger=ledger,
            )
            found.append(replace(answer, neighbours=voted, once=self.once))
        return [replace(answer, ledger=_timed(answer.ledger, clock)) for answer in found]

    def _scores(self, question: Question, near: Sequence[tuple[Question, float]]) -> NDArray[np.float64]:
        right = [q.choices[q.answer] for q, _ in near if q.answer is not None]
        embedded = self.bench.embedder.encode([*question.choices, *right])
        choices, answers = embedded[: len(question.choices)], embedded[len(question.choices) :]
        votes: NDArray[np.float64] = choices @ answers.T @ np.array([similarity for _, similarity in near])
        return votes / self.temperature


def _timed(ledger: Ledger, clock: Clock) -> Ledger:
    seconds = clock.seconds
    return replace(
        ledger,
        embedding=ledger.embedding.lasting(seconds["embedding"]),
        retrieval=ledger.retrieval.lasting(seconds["retrieval"]),
    )
