"""Adapt the scales of a model's norms to one question at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..answerers.base import Bench
from ..ledger import Ledger, summed
from ..losses import entropy
from ..routing.sites import decoder_of
from ..routing.whole_prompts import WholePrompts
from ..types import Answer, Prompt, Question
from ._exchange import Copies

if TYPE_CHECKING:
    from ..models.routed import RoutedModel


@dataclass(frozen=True, eq=False)
class Adapting:
    """TENT's answerer.

    Raises:
        ModelError: the model has no norms with a scale, or they are quantized or offloaded.
    """

    bench: Bench
    steps: int
    lr: float
    needs_label: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._copies()  # refuses before the first question

    @cached_property
    def whole(self) -> WholePrompts:
        """Runs the model as it is."""
        return WholePrompts(self.bench.model.model, self.bench.model.flops)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of its steps, forward and backward, and of one more pass."""
        plain, prompts = self.bench.plain(questions), self.bench.prompts(questions)
        if self.steps == 0:
            return plain
        with self.bench.model.lock:
            return [self._adapted(*one) for one in zip(prompts, plain, strict=True)]

    def _adapted(self, prompt: Prompt, base: Answer) -> Answer:
        began, copies = time.perf_counter(), self._copies()
        optimizer = torch.optim.Adam(copies.trained.values(), lr=self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            with torch.enable_grad(), copies.placed():
                entropy(self.whole.scores([prompt])).sum().backward()
            optimizer.step()
        adapted = time.perf_counter()
        with torch.no_grad(), copies.placed():
            scores = self.whole.scores([prompt])[0]
        ledger = Ledger(
            optimisation=summed([self.whole.work(prompt, trained=0)] * self.steps).lasting(adapted - began),
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
        return Copies.of(self.bench.model.model, _scales(self.bench.model), "norms with a scale")


def _scales(model: RoutedModel) -> Iterator[nn.Parameter]:
    """Of every norm that the decoder has, those of queries and keys included."""
    for module in decoder_of(model.model).modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and isinstance(weight, nn.Parameter) and weight.ndim == 1:
            yield weight
