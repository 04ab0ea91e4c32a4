"""Calibrations: another answerer's scores, corrected for what has nothing to do with the question.

Those that know no label weigh them against what the model makes of the options where nothing is asked.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Entry,
    Prompt,
    Question,
    Remix,
    SettingError,
)
from c3po_adaptive.tasks import BLANK, Rendered, encode
from c3po_adaptive.types import Changes

if TYPE_CHECKING:
    from c3po_adaptive import Strategies


@dataclass(frozen=True, eq=False)
class ScoredQuestion:
    """A question as an arm scored it.

    Attributes:
        question: asked.
        prompt: its tokens, as the format puts it.
        scores: ``[C]`` of its choices.
    """

    question: Question
    prompt: Prompt
    scores: NDArray[np.float64]

    @property
    def sums(self) -> NDArray[np.float64]:
        """``[C]`` of scores that are normalized log-likelihoods: the log-likelihoods."""
        sums: NDArray[np.float64] = self.scores * np.array(self.prompt.lengths)
        return sums


@dataclass(frozen=True)
class Calibration(AnswererStrategy):
    """Answers as another answerer does, by corrected scores: log-probabilities of the choices.

    The arm's strategies and settings are those of the other answerer, so ``optimizer: none`` calibrates the base, and
    any optimizer, with its selector and neighbours, a re-mixed arm.

    Attributes:
        of: whose scores are calibrated.
        needs_likelihoods: whether they have to be log-likelihoods.
    """

    of: InstanceOf[AnswererStrategy] = field(default_factory=Remix)
    needs_likelihoods: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_likelihoods and not self.of.likelihoods:
            raise SettingError(
                f"Expected {self.name}.of to be an answerer whose scores are log-likelihoods of the options, got "
                f"{self.of.name}, which does not say that (likelihoods: ClassVar[bool] = True); calibrate remix, say."
            )

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        self.of.fits(strategies, layers, experts, references)

    def learns(self, strategies: Strategies) -> bool:
        return self.of.learns(strategies)

    def changes(self, strategies: Strategies) -> Changes:
        return self.of.changes(strategies)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return self.of.used(strategies)


def calibrated(answer: Answer, scores: NDArray[np.float64], spent: Entry) -> Answer:
    """An answer by other scores ``[C]``, which took so much more."""
    probable = scores - np.logaddexp.reduce(scores)
    ledger = replace(answer.ledger, answer=answer.ledger.answer + spent)
    return replace(answer, choice=int(probable.argmax()), scores=tuple(probable.tolist()), ledger=ledger)


@dataclass(frozen=True)
class PriorCalibration(Calibration):
    """Weighs each option's likelihood against that after prompts that ask nothing; a subclass says which, and how.

    These are run along the model's own pathway, whichever the calibrated arm takes, and count as part of the answer.
    """

    @abstractmethod
    def instead(self, question: Question, context: AnsweringContext) -> list[Rendered]:
        """Prompts that stand in the place of the question's, with the same options."""

    @abstractmethod
    def against(self, asked: ScoredQuestion, prior: Sequence[ScoredQuestion]) -> NDArray[np.float64]:
        """``[C]`` scores, of those of the arm and those after each of the prompts."""

    def prepare(self, context: AnsweringContext) -> Answerer:
        return _AgainstPrior(self, self.of.prepare(context), context)


@dataclass(frozen=True, eq=False)
class _AgainstPrior:
    strategy: PriorCalibration
    inner: Answerer
    context: AnsweringContext

    @property
    def needs_label(self) -> bool:
        return self.inner.needs_label

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The other answerer's answers, at the price of the other prompts on top."""
        answers, began = self.inner.answer(questions), time.perf_counter()
        model = self.context.model
        prompts = [self._prompts(question) for question in questions]
        flat = [prompt for several in prompts for prompt in several]
        states = model.prefill(flat, batch_size=self.context.batch_size, keep=False)
        found = iter(zip(flat, model.choice_scores(states), states, strict=True))
        seconds, own = (time.perf_counter() - began) / len(questions), self.context.prompts(questions)
        corrected = []
        for question, prompt, several, answer in zip(questions, own, prompts, answers, strict=True):
            prior = [next(found) for _ in several]
            scores = self.strategy.against(
                ScoredQuestion(question, prompt, np.array(answer.scores)),
                [ScoredQuestion(question, other, scores.double().numpy()) for other, scores, _ in prior],
            )
            spent = sum((state.work for _, _, state in prior), Entry()).lasting(seconds)
            corrected.append(calibrated(answer, scores, spent))
        return corrected

    def _prompts(self, question: Question) -> list[Prompt]:
        model, format = self.context.model, self.context.format
        if question.images:
            raise SettingError(
                f"{self.strategy.name} expected questions of text alone, got images in {question.id!r}: which prompt "
                "asks nothing about them is not known; leave the calibration out."
            )
        own = format.put(question, model.tokenizer)
        instead = [
            replace(rendered, options=own.options, given=own.given)
            for rendered in self.strategy.instead(question, self.context)
        ]
        return [encode(one, model.tokenizer, format.normalize, max_length=model.max_length) for one in instead]


@dataclass(frozen=True)
class PMI(PriorCalibration):
    """By how much the question makes an option likelier: log p(option | question) − log p(option | domain prompt).

    Domain-conditional PMI, "Surface Form Competition" (Holtzman et al. 2021, arXiv 2104.08315, eq. 1): options that
    are likely anywhere, such as short or common ones, gain nothing by it. Log-likelihoods are sums over the option's
    tokens, whatever the format divides them by. No label is used, and nothing is fitted.

    Attributes:
        domain: the prompt that stands for all questions.
    """

    domain: Annotated[str, Field(pattern=r"\S", description="write one that is not blank")] = "Answer:"
    name: ClassVar[str] = "pmi"

    def instead(self, question: Question, context: AnsweringContext) -> list[Rendered]:
        return [Rendered(self.domain, ())]

    def against(self, asked: ScoredQuestion, prior: Sequence[ScoredQuestion]) -> NDArray[np.float64]:
        return asked.sums - prior[0].sums


@dataclass(frozen=True)
class Contextual(PriorCalibration):
    """Divides the choices' probabilities by those where the question's text says nothing: p / p_cf, renormalized.

    "Calibrate Before Use" (Zhao et al. 2021, arXiv 2102.09690, section 5): W = diag(p_cf)⁻¹, b = 0, where p_cf is the
    mean over content-free texts in the question's place, in the same format and with the same choices. The paper takes
    the softmax of W p, which chooses alike. No label is used, and nothing is fitted. Of a sentence with a gap, the text
    stands in the place of what comes before it.

    Attributes:
        texts: the content-free ones. One that would leave the prompt blank is left out.
    """

    texts: Annotated[tuple[str, ...], Field(min_length=1, description="give one text at least")] = ("N/A", "[MASK]", "")
    name: ClassVar[str] = "contextual"

    def instead(self, question: Question, context: AnsweringContext) -> list[Rendered]:
        gap = BLANK.search(question.question) is not None
        texts = [f"{text} _" if gap and text.strip() else text for text in self.texts]
        rendered = [context.format.put(replace(question, question=text), context.model.tokenizer) for text in texts]
        return [one for one in rendered if one.prompt.strip()] or rendered

    def against(self, asked: ScoredQuestion, prior: Sequence[ScoredQuestion]) -> NDArray[np.float64]:
        from scipy.special import log_softmax, logsumexp

        known = log_softmax([one.scores for one in prior], axis=-1)
        corrected: NDArray[np.float64] = log_softmax(asked.scores) - logsumexp(known, axis=0)
        return corrected
