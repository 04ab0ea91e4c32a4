"""Calibrations: another answerer's scores, corrected for what has nothing to do with the question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import AnswererStrategy
from ..answerers.remix import Remix
from ..checks import check_part
from ..errors import SettingError
from ..ledger import Entry
from ..types import Answer, Changes, Prompt, Question

if TYPE_CHECKING:
    from ..remixing.strategies import Strategies


@dataclass(frozen=True, eq=False)
class Scored:
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

    of: AnswererStrategy = field(default_factory=Remix)
    needs_likelihoods: ClassVar[bool] = True
    calibrates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_part(self, "of", AnswererStrategy)
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
