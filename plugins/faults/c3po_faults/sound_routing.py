"""A planted fault undone token by token: all that re-mixing could win back, and, at every token, the sound model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from c3po_adaptive import Answerer, AnswererStrategy, AnsweringContext

if TYPE_CHECKING:
    from torch import Tensor

    from c3po_adaptive import Answer, Entry, Question

Tokens = Literal["answer", "all"]


@dataclass(frozen=True)
class SoundRouting(AnswererStrategy):
    """Answers with the routers that the model had before a fault was planted in it: an upper bound that is told it.

    Attributes:
        tokens: ``answer``: the prompt's last token and the options', where ω acts, behind the prompt as the faulty
            model reads it; ``all``: every token, which is the sound model.
    """

    tokens: Tokens = "answer"
    name: ClassVar[str] = "sound-routing"
    likelihoods: ClassVar[bool] = True
    positive: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        from .planting import known_fault

        return _Sound(context, known_fault(context.model).fault.broken, self.tokens)

    def learns(self, strategies: object) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class _Sound:
    context: AnsweringContext
    layers: tuple[int, ...]
    tokens: Tokens
    needs_label: ClassVar[bool] = True
    """As upper bounds have it: it looks at the truth of the fault."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        plainly = self.context.plain(questions)
        if not self.layers:  # nothing to undo, nothing done
            return plainly
        found = zip(plainly, self._scored(questions), strict=True)
        return [
            replace(
                plain,
                choice=int(scores.argmax()),
                scores=tuple(scores.tolist()),
                ledger=replace(plain.ledger, answer=work),
                layers=self.layers,
            )
            for plain, (scores, work) in found
        ]

    def _scored(self, questions: Sequence[Question]) -> list[tuple[Tensor, Entry]]:
        from .planting import sound, undone_at_tails

        prompts = self.context.prompts(questions)
        if self.tokens == "answer":
            return [(r.scores(), r.work) for r in undone_at_tails(self.context.model, prompts)]
        without = sound(self.context.model)
        states = without.prefill(prompts)
        return [(s, state.work) for s, state in zip(without.choice_scores(states), states, strict=True)]
