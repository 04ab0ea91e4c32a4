"""A rule at every token, as an arm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import InstanceOf

from ..ledger import Ledger
from ..rules.base import NamedRule
from .base import Answerer, AnswererStrategy, AnsweringContext

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies
    from ..types import Answer, Question


@dataclass(frozen=True)
class AlongRule(AnswererStrategy):
    """Answers along a rule that acts at every token of prompt and options: ``{name: rule, rule: "top-k:1"}``.

    Attributes:
        rule: by its text, or as any other strategy.
    """

    rule: InstanceOf[NamedRule]
    name: ClassVar[str] = "rule"
    likelihoods: ClassVar[bool] = True
    writes: ClassVar[bool] = True

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        self.rule.fits(layers, experts)

    def prepare(self, context: AnsweringContext) -> Answerer:
        self.rule.fits(context.model.layers, context.model.n_experts)
        return _Along(self.rule, context)

    def learns(self, strategies: Strategies) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class _Along:
    rule: NamedRule
    context: AnsweringContext
    needs_label: ClassVar[bool] = False

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of one pass along the rule."""
        plain, began = self.context.plain(questions), time.perf_counter()
        ruled = self.context.model.ruled(self.context.prompts(questions), self.rule)
        seconds = (time.perf_counter() - began) / max(1, len(questions))
        answers = [
            replace(
                base,
                choice=int(scores.argmax()),
                scores=tuple(scores.tolist()),
                ledger=Ledger(prefill=one.work.lasting(seconds)),
            )
            for base, one, scores in zip(plain, ruled, (one.scores() for one in ruled), strict=True)
        ]
        return answers if self.context.score == "likelihood" else self._written(questions, answers)

    def _written(self, questions: Sequence[Question], answers: Sequence[Answer]) -> list[Answer]:
        """The answers that the model writes, which keep their seconds of before."""
        from ..remixing.written_answers import as_written

        prompts, model = self.context.prompts(questions), self.context.model
        batches = [[prompt] for prompt in prompts] if any(prompt.extra for prompt in prompts) else [prompts]
        written = [one for batch in batches for one in model.written(batch, self.rule)]
        each = zip(answers, questions, written, model.written(prompts), strict=True)
        return [as_written(answer, question, self.context.format, *both) for answer, question, *both in each]
