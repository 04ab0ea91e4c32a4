"""In-context learning: neighbours as solved examples in the prompt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..answerers.base import Answerer, AnswererStrategy, Bench
from ..ledger import Entry, Ledger, Work
from ..remixing.clock import Clock
from ..tasks.formats import description
from ..types import Answer, Prompt, Question
from ._references import finding_successes, references_of

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies

Near = Sequence[tuple[Question, float]]
"""References with their similarity, nearest first."""


@dataclass(frozen=True)
class InContext(AnswererStrategy):
    """The neighbours of the arm's retriever stand before the question, solved, the nearest last (Brown et al. 2020,
    arXiv 2005.14165); the model is left alone.

    The same neighbours as a re-mixing arm's: ``learn_from``, ``labels`` and ``max_similarity`` hold as there, and the
    retriever ``random`` is the control. As many examples are used as fit the model's context, the nearest ones; the
    answer's neighbours are those. The format's own shots, if it has any, come first.
    """

    name: ClassVar[str] = "in-context"
    positive: ClassVar[bool] = True
    likelihoods: ClassVar[bool] = True

    def prepare(self, bench: Bench) -> Answerer:
        return _WithExamples(bench, finding_successes(bench, references_of(bench, self.name)))

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ("retriever", "learn_from", "labels", "max_similarity", "seed")


@dataclass(frozen=True, eq=False)
class _WithExamples:
    bench: Bench
    once: float
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its longer prompt."""
        bench, clock = self.bench, Clock(len(questions))
        with clock("retrieval"):
            near = bench.nearest(questions)
        with clock("prefill"):
            put = [self._put(question, found) for question, found in zip(questions, near, strict=True)]
            states = bench.model.prefill([prompt for prompt, _ in put], batch_size=bench.batch_size, keep=False)
            scores = bench.model.choice_scores(states)
        found = []
        for b, (question, plain) in enumerate(zip(questions, bench.plain(questions), strict=True)):
            used = put[b][1]
            ledger = Ledger(
                prefill=states[b].work.lasting(clock.seconds["prefill"]),
                embedding=Entry(forward=Work(linear=bench.embedder.flops(description(question)))),
                retrieval=Entry(seconds=clock.seconds["retrieval"]),
            )
            answer = replace(plain, choice=int(scores[b].argmax()), scores=tuple(scores[b].tolist()), ledger=ledger)
            neighbours = tuple((q.id, similarity, 1 / len(used)) for q, similarity in used)
            found.append(replace(answer, neighbours=neighbours, once=self.once))
        return found

    def _put(self, question: Question, near: Near) -> tuple[Prompt, Near]:
        """The question after as many of its neighbours as the context holds, and these."""
        model, format = self.bench.model, self.bench.format
        for count in range(len(near), 0, -1):
            examples = tuple(q for q, _ in reversed(near[:count]))
            longer = replace(format, shots=format.shots + examples)  # type: ignore[type-var]  # all are dataclasses
            prompt: Prompt = longer.prompt(question, model.tokenizer, sys.maxsize)
            if len(prompt.ids) + max(map(len, prompt.options)) <= model.max_length:
                return prompt, near[:count]
        return model.encode(question, format), ()
