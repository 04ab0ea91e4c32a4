"""Answers whose scores come from another run of the same prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from ..answerers.base import Bench
from ..ledger import Ledger
from ..routing.flops import measure
from ..routing.intercept import lock_of
from ..routing.whole_prompts import NO_PREFIX, PromptPrefix, WholePrompts
from ..types import Answer, Prompt, Question


@dataclass(frozen=True, eq=False)
class Other:
    """Answers with a dense model in the place of the bench's own."""

    bench: Bench
    model: PreTrainedModel
    needs_label: bool = field(default=False, init=False)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of the other model."""
        plain, whole = self.bench.plain(questions), WholePrompts(self.model, measure(self.model, ()))
        with lock_of(self.model), torch.no_grad():
            return rescored(plain, whole, self.bench.prompts(questions), NO_PREFIX, self.bench.batch_size)


def rescored(
    plain: Sequence[Answer], whole: WholePrompts, prompts: Sequence[Prompt], opening: PromptPrefix, size: int
) -> list[Answer]:
    """The plain answers with the scores, and at the price, of another run of their prompts, ``size`` at a time."""
    found: list[Answer] = []
    for i in range(0, len(prompts), size):
        part, began = prompts[i : i + size], time.perf_counter()
        scores = whole.scores(part, opening)
        seconds = (time.perf_counter() - began) / len(part)
        for prompt, row, base in zip(part, scores, plain[i : i + size], strict=True):
            own = row[: len(prompt.options)]
            ledger = Ledger(prefill=whole.work(prompt, opening).lasting(seconds))
            found.append(replace(base, choice=int(own.argmax()), scores=tuple(own.tolist()), ledger=ledger))
    return found
