"""Calibrations that are fitted to labeled references: to how the arm itself scores them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from c3po_adaptive import FEWEST, Answer, Answerer, AnsweringContext, Entry, Prompt, Question, Remix, bar

from .calibrations import Calibration, ScoredQuestion, calibrated

if TYPE_CHECKING:
    from c3po_adaptive import ReferenceSet, Strategies

FOLDS = 5
EXPONENTS = np.linspace(0, 2, 41)
RANGE = (-6.0, 6.0)  # of the logarithm of what scores are multiplied with
EQUAL = 1e-7  # nats, below which two exponents explain the references alike

Correction = Callable[[ScoredQuestion], NDArray[np.float64]]
"""From an arm's scores ``[C]`` to corrected ones, whose softmax is the distribution over the choices."""


@dataclass(frozen=True)
class FittedCalibration(Calibration):
    """Learns from the arm's own scores of labeled references, answered right or wrong, what its errors have in common.

    All labeled references are fitted to, whatever ``learn_from`` says, but for those that are asked in the same run;
    labels are the arm's (``labels``). The base's scores are those that the set holds. Any other arm answers each
    reference as it answers a question, without its label and without itself among its neighbours. Of an arm that learns
    something from references once, answers to these would be flattered: it is prepared once more for each of five
    folds, from the other four, and asked that fold (cross-fitting); what is asked later is answered by the one that
    learned from all. What all this takes is counted once, learning in each fold as well; but what the set keeps of each
    reference is not spent again.

    Attributes:
        sample: how many references it is fitted to, drawn by the run's seed; None: all. The arm learns from all of them
            whatever it says: of thousands, some hundreds say how scores err, and each takes an answer.
    """

    sample: Annotated[int, Field(ge=FEWEST)] | None = field(default=None, kw_only=True)

    @abstractmethod
    def fit(self, references: Sequence[ScoredQuestion], answers: NDArray[np.int64]) -> Correction:
        """The correction, of N references and their right choices ``[N]``; the same for the same references."""

    def prepare(self, context: AnsweringContext) -> Answerer:
        known, inner = context.references_for(self.name), self.of.prepare(context)
        self.check_count(len(known))
        fitted = self._sampled(known.labeled_by(context.settings), context.settings.seed)
        labeled = fitted.questions
        if isinstance(self.of, Remix) and not context.strategies.re_mixes:
            scores: Sequence[Sequence[float]] = fitted.scores
            once = sum(context.model.plain_work(prompt).flops for prompt in context.prompts(labeled))
        else:
            answers, learning = self._answers(replace(context, build_references=lambda: known), labeled)
            scores = [answer.scores for answer in answers]
            known_already = 0.0 if answers[0].reference_flops == 0 else sum(answer.cost.prefill for answer in answers)
            once = learning + sum(answer.cost.total for answer in answers) - known_already
        asked = zip(labeled, context.prompts(labeled), map(np.array, scores), strict=True)
        right = np.array([q.answer for q in labeled], np.int64)
        return _Fitted(self.fit([ScoredQuestion(*one) for one in asked], right), inner, context, once)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        self.check_count(references)
        learned = references - math.ceil(references / FOLDS) if self.of.learns(strategies) else references
        self.of.fits(strategies, layers, experts, learned)

    def learns(self, strategies: Strategies) -> bool:
        return True

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.of.used(strategies), "labels")))

    def _sampled(self, references: ReferenceSet, seed: int) -> ReferenceSet:
        """Those that it is fitted to."""
        import torch

        if self.sample is None or self.sample >= len(references):
            return references
        drawn = torch.randperm(len(references), generator=torch.Generator().manual_seed(seed))
        return references.subset(drawn[: self.sample].sort().values)

    def _answers(self, context: AnsweringContext, labeled: Sequence[Question]) -> tuple[list[Answer], float]:
        """The arm's answers to references, and the FLOPs of learning once more in each fold, if it learns at all."""
        if not self.of.learns(context.strategies):
            return self._asked(self.of.prepare(context), context, labeled), 0.0
        found: dict[str, Answer] = {}
        learning = 0.0
        for fold in range(FOLDS):
            asked = labeled[fold::FOLDS]
            answers = self._asked(self.of.prepare(context.holding_out(asked)), context, asked)
            learning += answers[-1].setup_flops - answers[-1].reference_flops
            found |= {q.id: answer for q, answer in zip(asked, answers, strict=True)}
        return [found[q.id] for q in labeled], learning

    def _asked(self, inner: Answerer, context: AnsweringContext, labeled: Sequence[Question]) -> list[Answer]:
        """Answers to references, whose labels only an upper bound sees."""
        seen = list(labeled) if inner.needs_label else [replace(q, answer=None) for q in labeled]
        parts = [seen[i : i + context.batch_size] for i in range(0, len(seen), context.batch_size)]
        label = f"{self.name}: asking {len(seen)} references"
        return [answer for part in bar(parts, label) for answer in inner.answer(part)]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Corrects an answerer's scores.

    Attributes:
        correction: that was fitted.
        inner: whose scores they are.
        context: of the questions.
        fitting: FLOPs of the references' scores.
    """

    correction: Correction
    inner: Answerer
    context: AnsweringContext
    fitting: float

    @property
    def needs_label(self) -> bool:
        return self.inner.needs_label

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The other answerer's answers, by corrected scores."""
        answers, prompts = self.inner.answer(questions), self.context.prompts(questions)
        found = []
        for question, prompt, answer in zip(questions, prompts, answers, strict=True):
            scores = self.correction(ScoredQuestion(question, prompt, np.array(answer.scores)))
            found.append(replace(calibrated(answer, scores, Entry()), setup_flops=answer.setup_flops + self.fitting))
        return found


@dataclass(frozen=True)
class LengthExponent(FittedCalibration):
    """Scores Σ log p / length^a, with the exponent a that makes the references' right choices likeliest.

    Maximum likelihood of the right choice among the choices, over a from 0 (the sum) by 1 (the mean) to 2 and a
    temperature. Lengths are those that the format divides by, or tokens where it divides by nothing; where exponents
    explain the references alike, as in a lettered format, the format's own is kept.
    """

    name: ClassVar[str] = "length-exponent"

    def fit(self, references: Sequence[ScoredQuestion], answers: NDArray[np.int64]) -> Correction:
        own = float(any(set(one.prompt.lengths) != {1.0} for one in references))
        fits = [_likeliest(references, answers, float(exponent)) for exponent in EXPONENTS]
        least = min(loss for loss, _ in fits)
        alike = [power for loss, power in fits if loss <= least + EQUAL]
        return min(alike, key=lambda power: abs(power.exponent - own))


@dataclass(frozen=True)
class Power:
    """The correction: scores ``scale`` · Σ log p / length^``exponent``."""

    exponent: float
    scale: float

    def __call__(self, asked: ScoredQuestion) -> NDArray[np.float64]:
        return self.scale * asked.sums / _lengths(asked.prompt) ** self.exponent


def _lengths(prompt: Prompt) -> NDArray[np.float64]:
    """``[C]`` what the format divides by, or tokens where that is nothing."""
    undivided = set(prompt.lengths) == {1.0}
    return np.array([len(option) for option in prompt.options] if undivided else prompt.lengths, np.float64)


def _likeliest(
    references: Sequence[ScoredQuestion], answers: NDArray[np.int64], exponent: float
) -> tuple[float, Power]:
    """Of all scales with an exponent the likeliest, and the mean negative log-likelihood that it has."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    width = max(len(one.scores) for one in references)
    scores = np.full((len(references), width), -np.inf)
    for row, one in enumerate(references):
        scores[row, : len(one.scores)] = Power(exponent, 1.0)(one)

    def loss(scale: float) -> float:
        return -float(log_softmax(np.exp(scale) * scores, axis=1)[np.arange(len(answers)), answers].mean())

    found = minimize_scalar(loss, bounds=RANGE, method="bounded", options={"xatol": 1e-6})
    return float(found.fun), Power(exponent, float(np.exp(found.x)))
