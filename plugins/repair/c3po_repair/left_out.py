"""Answers to references that were left out, fold by fold, and what a mended model gains there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from c3po_adaptive import DataError, Format, Question, RoutedModel, State, over_flips, over_values
from c3po_adaptive.tasks import again_in_words, distinct

from .limits import FEWEST

TOGETHER = 32
TEMPERED = (-3.0, 3.0)
"""Logarithms of what scores are multiplied with, at least and at most."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """The mean of paired differences over references, with its interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:.2f}, {self.high:.2f}]"

    def compared(self, above: str, below: str) -> str:
        """What it is called above zero, below it, or where the interval holds it."""
        return above if self.low > 0 else below if self.high < 0 else "no significant difference"


@dataclass(frozen=True, eq=False)
class Answered:
    """N references as a model answers them: ``[N]`` whether right, and the loss over the choices in nats, at the one
    temperature that suits all of them best: how sure a model is of its answers is not what routers are mended for.
    """

    right: Floats
    loss: Floats


@dataclass(frozen=True, eq=False)
class Repair:
    """A mended model.

    Attributes:
        model: mended by all references; it shares everything but its routers with the one that it was made of.
        steps: that were taken, each by its parameters; none: nothing lowered the loss, and the model is as it was.
        before: the references as the model answered them.
        after: each as routers answer it that the other folds mended, as far as the other folds chose.
        flops: what all that took.
        again: what repeated references were counted once, in a sentence; "": none.
    """

    model: RoutedModel
    steps: tuple[Mapping[str, float], ...]
    before: Answered
    after: Answered
    flops: float
    again: str = ""

    def __repr__(self) -> str:
        """In two lines, or three."""
        lines = [f"Repair of {self.model.name!r} in {len(self.steps)} steps:", self.sentence, self.again]
        return "\n  ".join(filter(None, lines))

    @property
    def sentence(self) -> str:
        """What it gains on the references."""
        before, after = (100 * one.right.mean() for one in (self.before, self.after))
        points, nats = self.points, self.nats
        return (
            f"Right: {before:.1f} → {after:.1f} % of {len(self.before.right)} references, {points.value:+.1f} points "
            f"[{points.low:.1f}, {points.high:.1f}], {points.compared('more', 'fewer')}; loss {nats.value:+.3f} nats "
            f"[{nats.low:.3f}, {nats.high:.3f}], {nats.compared('higher', 'lower')}. Each reference is answered by "
            "routers that did not learn from it; the loss is after a fitted temperature, not the raw one."
        )

    @property
    def points(self) -> Gain:
        """How many points of right answers it gains."""
        each = self.after.right - self.before.right
        found = over_flips([each[:, None]], seed=0)
        return Gain(100 * float(each.mean()), 100 * found.low, 100 * found.high)

    @property
    def nats(self) -> Gain:
        """By how much it changes the loss."""
        each = self.after.loss - self.before.loss
        found = over_values(each[:, None], seed=0)
        return Gain(float(each.mean()), found.low, found.high)

    @property
    def helps(self) -> bool:
        """Whether more answers are shown to be right, or some more are and the loss is shown to be lower. At one
        temperature before and one after, that is not had by choices which only become more alike, as labels at random
        would have it."""
        return self.points.low > 0 or (self.points.value > 0 and self.nats.high < 0)


def judged(tries: Sequence[Answered], folds: Sequence[Sequence[Question]]) -> tuple[Answered, list[int]]:
    """Each fold as it is answered by the try that the other folds lose least by, so that a choice among tries is no
    gain; and which try that is.

    Args:
        tries: answers to all folds, one after another.
        folds: the references.
    """
    fold = np.repeat(np.arange(len(folds)), [len(one) for one in folds])
    losses = np.array([one.loss for one in tries])
    best = [int(losses[:, fold != f].mean(1).argmin()) for f in range(len(folds))]
    mine = np.array(best)[fold], np.arange(len(fold))
    return Answered(np.array([one.right for one in tries])[mine], losses[mine]), best


def once(questions: Sequence[Question], source: str = "the list") -> tuple[list[Question], str]:
    """References without repeated ones, which would be learned from in one fold and answered in another; and a sentence
    on these, "" where there are none.

    Raises:
        DataError: there are too few.
    """
    found, again = distinct(questions)
    said = f"Counted once: {again_in_words(again, 'references', source)}." if again else ""
    if len(found) < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} references, got {len(found)}; label more questions. {said}".rstrip()
        )
    return found, said


def folds_of(questions: Sequence[Question], folds: int, seed: int) -> list[list[Question]]:
    """References in so many parts, drawn at random, but with as many of each kind and right answer in all of them,
    where kinds are told: where a kind has few answers, references without some of one answer teach against it."""
    drawn = torch.randperm(len(questions), generator=torch.Generator().manual_seed(seed)).tolist()
    order = sorted(drawn, key=lambda i: _group(questions[i]))  # stable: at random within a group
    return [[questions[i] for i in sorted(order[fold::folds])] for fold in range(folds)]


def _group(question: Question) -> tuple[str, str]:
    """The kind, and the right answer's text."""
    return question.subject or question.task, "" if question.answer is None else question.choices[question.answer]


def parts_of(questions: Sequence[Question]) -> list[Sequence[Question]]:
    """So many as are run together."""
    return [questions[i : i + TOGETHER] for i in range(0, len(questions), TOGETHER)]


def prefilled(model: RoutedModel, questions: Sequence[Question], format: str | Format) -> list[State]:
    """What comes before the first router, which mending does not change: so it is kept with the model as it was."""
    return model.prefill([model.encode(q, format) for q in questions], scope="all")


@torch.no_grad()
def answered(
    model: RoutedModel, asked: Iterable[tuple[RoutedModel, Sequence[Question]]], format: str | Format
) -> tuple[Answered, float]:
    """Questions as copies of a model answer them that differ from it in their routers alone; and what that took.

    Args:
        model: that they are copies of.
        asked: each copy with the questions that are put to it.
        format: how they are put.
    """
    scores: list[Tensor] = []
    right: list[int] = []
    flops = 0.0
    for made, questions in asked:
        for part in parts_of(questions):
            for one, question in zip(made.ruled_from(prefilled(model, part, format), _as_it_is), part, strict=True):
                scores.append(one.scores().double())
                right.append(question.answer or 0)
                flops += one.work.flops
    each = pad_sequence(scores, batch_first=True, padding_value=-torch.inf)
    answers = torch.tensor(right)
    return Answered((each.argmax(-1) == answers).double().numpy(), _losses(each, answers)), flops


def _losses(scores: Tensor, answers: Tensor) -> Floats:
    """``[N]`` of the right choices among ``scores [N, C]``, at the temperature of the lowest mean."""

    def at(log_inverse: float) -> Tensor:
        return -(scores * math.exp(log_inverse)).log_softmax(-1).gather(1, answers[:, None]).squeeze(1)

    found = minimize_scalar(lambda x: float(at(x).mean()), bounds=TEMPERED, method="bounded")
    return at(float(found.x)).numpy()


def _as_it_is(routing: object) -> None:
    """The rule that leaves every layer to the model."""
