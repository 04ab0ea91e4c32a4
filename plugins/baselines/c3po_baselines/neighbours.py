"""Answers from the neighbours by themselves: as solved examples in the prompt, or by their labels' votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Entry,
    Ledger,
    Prompt,
    Question,
    Work,
)
from c3po_adaptive.tasks import description

if TYPE_CHECKING:
    from c3po_adaptive import ReferenceSet, Strategies

Near = Sequence[tuple[Question, float]]
"""References with their similarity, nearest first."""


@dataclass(frozen=True)
class FromNeighbours(AnswererStrategy):
    """Answers from the neighbours of the arm's retriever, as a re-mixing arm finds them."""

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("retriever", "learn_from", "labels", "max_similarity", "seed")


def finding_successes(context: AnsweringContext, references: ReferenceSet) -> float:
    """FLOPs of finding out which references the model answers right; none where that does not matter."""
    if context.settings.learn_from != "successful":
        return 0.0
    return sum(context.model.plain_work(prompt).flops for prompt in context.prompts(references.questions))


@dataclass(frozen=True)
class InContext(FromNeighbours):
    """The neighbours of the arm's retriever stand before the question, solved, the nearest last (Brown et al. 2020,
    arXiv 2005.14165); the model is left alone.

    The same neighbours as a re-mixing arm's: ``learn_from``, ``labels`` and ``max_similarity`` hold as there, and the
    retriever ``random`` is the control. As many examples are used as fit the model's context, the nearest ones; the
    answer's neighbours are those. The format's own shots, if it has any, come first.
    """

    name: ClassVar[str] = "in-context"
    positive: ClassVar[bool] = True
    likelihoods: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        return _WithExamples(context, finding_successes(context, context.all_references(self.name)))


@dataclass(frozen=True, eq=False)
class _WithExamples:
    context: AnsweringContext
    setup_flops: float
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its longer prompt."""
        context, began = self.context, perf_counter()
        near = context.nearest(questions)
        retrieved = perf_counter()
        put = [self._put(question, found) for question, found in zip(questions, near, strict=True)]
        states = context.model.prefill([prompt for prompt, _ in put], batch_size=context.batch_size, keep=False)
        scores = context.model.choice_scores(states)
        seconds = (perf_counter() - retrieved) / len(questions)
        found = []
        for b, (question, plain) in enumerate(zip(questions, context.plain(questions), strict=True)):
            used = put[b][1]
            ledger = Ledger(
                prefill=states[b].work.lasting(seconds),
                embedding=Entry(forward=Work(linear=context.embedder.flops(description(question)))),
                retrieval=Entry(seconds=(retrieved - began) / len(questions)),
            )
            answer = replace(plain, choice=int(scores[b].argmax()), scores=tuple(scores[b].tolist()), ledger=ledger)
            neighbours = tuple((q.id, similarity, 1 / len(used)) for q, similarity in used)
            found.append(replace(answer, neighbours=neighbours, setup_flops=self.setup_flops))
        return found

    def _put(self, question: Question, near: Near) -> tuple[Prompt, Near]:
        """The question after as many of its neighbours as the context holds, and these."""
        shots = self.context.format.shots
        for count in range(len(near), 0, -1):
            examples = tuple(q for q, _ in reversed(near[:count]))
            prompt = self.context.with_shots(question, shots + examples)
            if prompt is not None:
                return prompt, near[:count]
        return self.context.model.encode(question, self.context.format), ()


@dataclass(frozen=True)
class KnnLabel(FromNeighbours):
    """The option whose text is most like the right answers of the nearest references (by the arm's retriever).

    Nearest-neighbour classification (Cover and Hart 1967, IEEE Trans. Inf. Theory 13:21) where options are texts: each
    scores Σ s_i cos(option, right answer i), s_i the reference's similarity to the question. Where options are the same
    few texts in every question, that is a vote for a label. The model is not asked; its plain answer only says what the
    question would have cost. Without neighbours all options are alike.

    Attributes:
        temperature: what the scores are divided by.
    """

    temperature: PositiveFloat = 0.1
    name: ClassVar[str] = "knn-label"

    def prepare(self, context: AnsweringContext) -> Answerer:
        references = context.all_references(self.name)
        right = [q.choices[q.answer] for q in references.questions if q.answer is not None]
        embedded = sum(map(context.embedder.flops, right))
        return _Voter(self.temperature, context, finding_successes(context, references) + embedded)


@dataclass(frozen=True, eq=False)
class _Voter:
    temperature: PositiveFloat
    context: AnsweringContext
    setup_flops: float
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of embedding it and its options."""
        count, began = len(questions), perf_counter()
        near = self.context.nearest(questions)
        retrieved = perf_counter()
        votes = [self._scores(question, found) for question, found in zip(questions, near, strict=True)]
        seconds = (perf_counter() - retrieved) / count
        answers = []
        for plain, question, scores, found in zip(self.context.plain(questions), questions, votes, near, strict=True):
            flops = sum(map(self.context.embedder.flops, [description(question), *question.choices]))
            answers.append(
                replace(
                    plain,
                    choice=int(scores.argmax()) if found else plain.choice,
                    scores=tuple(scores.tolist()),
                    ledger=Ledger(
                        embedding=Entry(forward=Work(linear=flops), seconds=seconds),
                        retrieval=Entry(seconds=(retrieved - began) / count),
                    ),
                    neighbours=tuple((q.id, similarity, 1 / len(found)) for q, similarity in found),
                    setup_flops=self.setup_flops,
                )
            )
        return answers

    def _scores(self, question: Question, near: Sequence[tuple[Question, float]]) -> NDArray[np.float64]:
        right = [q.choices[q.answer] for q, _ in near if q.answer is not None]
        embedded = self.context.embedder.encode([*question.choices, *right])
        choices, answers = embedded[: len(question.choices)], embedded[len(question.choices) :]
        votes: NDArray[np.float64] = choices @ answers.T @ np.array([similarity for _, similarity in near])
        return votes / self.temperature
