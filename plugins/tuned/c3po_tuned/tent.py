"""TENT: entropy minimisation at test time, on the scales of the norms."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import nn
from torch.distributions import Categorical

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Entry,
    Ledger,
    Prompt,
    Question,
)

from .exchange import Copies

if TYPE_CHECKING:
    from c3po_adaptive import RoutedModel, Strategies, WholePrompts


@dataclass(frozen=True, kw_only=True)
class Tent(AnswererStrategy):
    """Entropy of each question's own choices, lowered by the scales of all norms (Wang et al. 2021, arXiv 2006.10726).

    No label and no reference is looked at. The paper adapts batch after batch; here each question starts from the model
    as it was, so that its answer does not depend on others. Biases of norms, where a family has them, stay.

    Attributes:
        steps: of Adam.
        lr: learning rate.
    """

    steps: NonNegativeInt = 1
    lr: PositiveFloat = 1e-3
    name: ClassVar[str] = "tent"
    likelihoods: ClassVar[bool] = True

    def prepare(self, context: AnsweringContext) -> Answerer:
        return _Adapting(context, self.steps, self.lr)

    def learns(self, strategies: Strategies) -> bool:
        return False

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, eq=False)
class _Adapting:
    """Adapts the scales of the norms to one question at a time.

    Raises:
        ModelError: the model has no norms with a scale, or they are quantized or offloaded.
    """

    context: AnsweringContext
    steps: int
    lr: float
    needs_label: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._copies()  # refuses before the first question

    @cached_property
    def whole(self) -> WholePrompts:
        """Runs the model as it is."""
        return self.context.model.whole_prompts()

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its steps, forward and backward, and of one more pass."""
        plain, prompts = self.context.plain(questions), self.context.prompts(questions)
        if self.steps == 0:
            return plain
        with self.context.model.answering():
            return [self._adapted(*one) for one in zip(prompts, plain, strict=True)]

    def _adapted(self, prompt: Prompt, base: Answer) -> Answer:
        began, copies = time.perf_counter(), self._copies()
        optimizer = torch.optim.Adam(copies.trained.values(), lr=self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            with torch.enable_grad(), copies.placed():
                Categorical(logits=self.whole.scores([prompt])[0]).entropy().backward()
            optimizer.step()
        adapted = time.perf_counter()
        with torch.no_grad(), copies.placed():
            scores = self.whole.scores([prompt])[0]
        ledger = Ledger(
            optimisation=sum([self.whole.work(prompt, trained=0)] * self.steps, Entry()).lasting(adapted - began),
            answer=self.whole.work(prompt).lasting(time.perf_counter() - adapted),
        )
        return replace(
            base,
            choice=int(scores.argmax()),
            scores=tuple(scores.tolist()),
            ledger=ledger,
            parameters=sum(p.numel() for p in copies.trained.values()),
        )

    def _copies(self) -> Copies:
        return Copies.of(self.context.model.model, _scales(self.context.model), "norms with a scale")


def _scales(model: RoutedModel) -> Iterator[nn.Parameter]:
    """Of every norm that the decoder has, those of queries and keys included."""
    for module in model.decoder.modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, nn.Parameter) and weight.ndim == 1:
            yield weight
