"""Calibrations that know no label: what the model makes of the options where nothing is asked."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import Answerer, Bench
from ..ledger import summed
from ..tasks.formats import Rendered, encode
from ..types import Answer, Prompt, Question
from ._calibration import Calibration, Scored, calibrated


@dataclass(frozen=True)
class PriorCalibration(Calibration):
    """Weighs each option's likelihood against that after prompts that ask nothing; a subclass says which, and how.

    These are run along the model's own pathway, whichever the calibrated arm takes, and count as part of the answer.
    """

    @abstractmethod
    def instead(self, question: Question, bench: Bench) -> list[Rendered]:
        """Prompts that stand in the place of the question's, with the same options."""

    @abstractmethod
    def against(self, asked: Scored, prior: Sequence[Scored]) -> NDArray[np.float64]:
        """``[C]`` scores, of those of the arm and those after each of the prompts."""

    def prepare(self, bench: Bench) -> Answerer:
        return _AgainstPrior(self, self.of.prepare(bench), bench)


@dataclass(frozen=True, eq=False)
class _AgainstPrior:
    strategy: PriorCalibration
    inner: Answerer
    bench: Bench

    @property
    def needs_label(self) -> bool:
        return self.inner.needs_label

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The other answerer's answers, at the price of the other prompts on top."""
        answers, began = self.inner.answer(questions), time.perf_counter()
        model = self.bench.model
        prompts = [self._prompts(question) for question in questions]
        flat = [prompt for several in prompts for prompt in several]
        states = model.prefill(flat, batch_size=self.bench.batch_size, keep=False)
        found = iter(zip(flat, model.choice_scores(states), states, strict=True))
        seconds, own = (time.perf_counter() - began) / len(questions), self.bench.prompts(questions)
        corrected = []
        for question, prompt, several, answer in zip(questions, own, prompts, answers, strict=True):
            prior = [next(found) for _ in several]
            scores = self.strategy.against(
                Scored(question, prompt, np.array(answer.scores)),
                [Scored(question, other, scores.double().numpy()) for other, scores, _ in prior],
            )
            spent = summed(state.work for _, _, state in prior).lasting(seconds)
            corrected.append(calibrated(answer, scores, spent))
        return corrected

    def _prompts(self, question: Question) -> list[Prompt]:
        model, format = self.bench.model, self.bench.format
        own = format.put(question, model.tokenizer)
        instead = [
            replace(rendered, options=own.options, given=own.given)
            for rendered in self.strategy.instead(question, self.bench)
        ]
        return [encode(one, model.tokenizer, format.normalize, max_length=model.max_length) for one in instead]
