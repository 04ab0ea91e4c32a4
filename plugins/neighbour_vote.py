"""Copy the neighbours' answers: an answerer that re-mixes nothing, in one file.

Nearest-neighbour classification (Cover and Hart 1967, IEEE Trans. Inf. Theory 13:21) as a control that re-mixing has to
beat: each option is scored by how like its text is to the right answers of the nearest references, weighed by how near
these are. The model is not asked at all; its plain answer only says what the question would have cost.

Try it: ``c3po demo --plugin plugins/neighbour_vote.py --arm neighbour-vote``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    Bench,
    Entry,
    Ledger,
    Question,
    SettingError,
    Work,
    hookimpl,
)


@dataclass(frozen=True)
class NeighbourVote(AnswererStrategy):
    """The option whose text is most like the right answers of the nearest references (by the arm's retriever)."""

    temperature: float = 0.1
    name: ClassVar[str] = "neighbour-vote"

    def prepare(self, bench: Bench) -> Answerer:
        if bench.references is None:
            raise SettingError("neighbour-vote expected references, got none; name some in the data set.")
        return _Voter(self.temperature, bench)

    def used(self, strategies: object) -> tuple[str, ...]:
        return ("retriever", "learn_from", "labels", "max_similarity")


@dataclass(frozen=True, eq=False)
class _Voter:
    temperature: float
    bench: Bench
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of embedding it."""
        near, plain = self.bench.nearest(questions), self.bench.plain(questions)
        return [self._voted(*one) for one in zip(questions, near, plain, strict=True)]

    def _voted(self, question: Question, near: Sequence[tuple[Question, float]], plain: Answer) -> Answer:
        right = [q.choices[q.answer] for q, _ in near if q.answer is not None]
        embedded = self.bench.embedder.encode([*question.choices, *right])
        choices, answers = embedded[: len(question.choices)], embedded[len(question.choices) :]
        scores = choices @ answers.T @ np.array([similarity for _, similarity in near]) / self.temperature
        flops = sum(map(self.bench.embedder.flops, [question.question, *question.choices]))  # answers: once a reference
        return replace(
            plain,
            choice=int(scores.argmax()),
            scores=tuple(scores.tolist()),
            ledger=Ledger(embedding=Entry(forward=Work(linear=flops))),
            neighbours=tuple((q.id, similarity, 1 / len(near)) for q, similarity in near),
        )


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [NeighbourVote]
