"""A plugin in one file, for tests of whoever loads one: the optimizer ``halfway``, ``practised``, which learns, and
``told``, which reads a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from c3po_adaptive import AnswererStrategy, ScoredLayers, Selection, TowardMean, hookimpl

FILE = Path(__file__)


@dataclass(frozen=True)
class Halfway(TowardMean):
    """Half of the way to the neighbours' mean pathway."""

    name: ClassVar[str] = "halfway"

    def share(self, problem, mean):
        return problem.own.new_full((len(problem.own),), 0.5)


@dataclass(frozen=True, kw_only=True)
class Practised(ScoredLayers):
    """The layers that the run's optimizer moves most, on average over references.

    Attributes:
        training: references to practise on.
    """

    training: Annotated[int, Field(ge=2)] = 32
    learned: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "practised"
    needs_neighbours: ClassVar[bool] = False

    @property
    def references_needed(self):
        return self.training

    def prepare(self, training):
        return replace(self, learned=training.once(self, lambda: {"moved": self._moved(training)}))

    def _moved(self, training):
        found = []
        for problem in training.problems(self.training):
            seen = problem.within(Selection(problem.own >= 0))
            seen = seen if training.optimizer.needs_label else seen.unlabeled()
            found.append((training.optimizer.optimize(seen) - seen.own).detach().abs().sum(-1))
        return torch.cat(found).mean(0)

    def score(self, problem):
        return self.learned["moved"].expand(len(problem.own), -1), None


@dataclass(frozen=True, kw_only=True)
class Told(AnswererStrategy):
    """The model's own answers with a file's text before the question."""

    text: str
    name: ClassVar[str] = "told"

    @property
    def files(self):
        return (self.text,)

    def prepare(self, context):
        text = Path(self.text).read_text(encoding="utf-8")
        return By(lambda questions: context.plain([replace(q, question=f"{text} {q.question}") for q in questions]))


@dataclass(frozen=True)
class By:
    """Answers as a function does."""

    answer: Callable
    needs_label: ClassVar[bool] = False


@hookimpl
def register_answerers():
    return [Told]


@hookimpl
def register_optimizers():
    return [Halfway]


@hookimpl
def register_layer_selectors():
    return [Practised]
