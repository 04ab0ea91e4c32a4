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
    Index,
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
        rows = {question.id: row for row, question in enumerate(bench.references.questions)}
        return _Voter(self, bench, bench.references.index(bench.strategies.retriever), rows)

    def used(self, strategies: object) -> tuple[str, ...]:
        return ("retriever",)


@dataclass(frozen=True, eq=False)
class _Voter:
    strategy: NeighbourVote
    bench: Bench
    index: Index
    rows: dict[str, int]
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of embedding it."""
        texts = [question.question for question in questions]
        vectors, most = self.bench.embedder.encode(texts), self.bench.settings.max_similarity
        itself = [{self.rows[q.id]} if q.id in self.rows else set() for q in questions]
        hits = self.index.search(vectors, exclude=itself, max_similarity=most, keys=range(len(texts)))
        near = [row[row >= 0].tolist() for row in hits.index]
        plain = self.bench.plain(questions)
        return [self._voted(*one) for one in zip(questions, near, hits.similarity, plain, strict=True)]

    def _voted(self, question: Question, near: Sequence[int], similarity: np.ndarray, plain: Answer) -> Answer:
        references = self.bench.references
        assert references is not None  # prepare refused to go without
        known = [references.questions[row] for row in near]
        right = [q.choices[q.answer] for q in known if q.answer is not None]
        embedded = self.bench.embedder.encode([*question.choices, *right])
        choices, answers = embedded[: len(question.choices)], embedded[len(question.choices) :]
        flops = sum(map(self.bench.embedder.flops, [question.question, *question.choices]))  # answers: once a reference
        scores = (choices @ answers.T @ similarity[: len(right)]) / self.strategy.temperature
        return replace(
            plain,
            choice=int(scores.argmax()),
            scores=tuple(scores.tolist()),
            ledger=Ledger(embedding=Entry(forward=Work(linear=flops))),
            neighbours=tuple((q.id, float(s), 1 / len(known)) for q, s in zip(known, similarity, strict=False)),
        )


@hookimpl
def register_answerers() -> list[type[AnswererStrategy]]:
    return [NeighbourVote]
