"""Calibrations that are fitted to labeled references: to how the arm itself scores them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..answerers.base import Answerer, Bench
from ..answerers.remix import Remix
from ..checks import check_number
from ..ledger import Entry
from ..progress import bar
from ..types import Answer, Question
from ._calibration import Calibration, Scored, calibrated
from ._references import FEWEST, check_count, references_of

if TYPE_CHECKING:
    from ..references.reference_set import ReferenceSet
    from ..remixing.strategies import Strategies

FOLDS = 5

Correction = Callable[[Scored], NDArray[np.float64]]
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

    sample: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample is not None:
            check_number(self, "sample", at_least=FEWEST, whole=True)

    @abstractmethod
    def fit(self, references: Sequence[Scored], answers: NDArray[np.int64]) -> Correction:
        """The correction, of N references and their right choices ``[N]``; the same for the same references."""

    def prepare(self, bench: Bench) -> Answerer:
        known, inner = _without_asked(references_of(bench, self.name), bench.held_out), self.of.prepare(bench)
        check_count(self.name, len(known))
        fitted = self._sampled(known.labeled_by(bench.settings), bench.settings.seed)
        labeled = fitted.questions
        if isinstance(self.of, Remix) and not bench.strategies.re_mixes:
            scores: Sequence[Sequence[float]] = fitted.scores
            once = sum(bench.model.plain_work(prompt).flops for prompt in bench.prompts(labeled))
        else:
            answers, learning = self._answers(replace(bench, build_references=lambda: known), labeled)
            scores = [answer.scores for answer in answers]
            known_already = 0.0 if answers[0].kept == 0 else sum(answer.cost.prefill for answer in answers)
            once = learning + sum(answer.cost.total for answer in answers) - known_already
        asked = zip(labeled, bench.prompts(labeled), map(np.array, scores), strict=True)
        right = np.array([q.answer for q in labeled], np.int64)
        return _Fitted(self.fit([Scored(*one) for one in asked], right), inner, bench, once)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        check_count(self.name, references)
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

    def _answers(self, bench: Bench, labeled: Sequence[Question]) -> tuple[list[Answer], float]:
        """The arm's answers to references, and the FLOPs of learning once more in each fold, if it learns at all."""
        if not self.of.learns(bench.strategies):
            return self._asked(self.of.prepare(bench), bench, labeled), 0.0
        found: dict[str, Answer] = {}
        learning = 0.0
        for fold in range(FOLDS):
            asked = labeled[fold::FOLDS]
            held_out = bench.held_out | {q.id for q in asked}
            answers = self._asked(self.of.prepare(replace(bench, held_out=held_out)), bench, asked)
            learning += answers[-1].once - answers[-1].kept
            found |= {q.id: answer for q, answer in zip(asked, answers, strict=True)}
        return [found[q.id] for q in labeled], learning

    def _asked(self, inner: Answerer, bench: Bench, labeled: Sequence[Question]) -> list[Answer]:
        """Answers to references, whose labels only an upper bound sees."""
        seen = list(labeled) if inner.needs_label else [replace(q, answer=None) for q in labeled]
        parts = [seen[i : i + bench.batch_size] for i in range(0, len(seen), bench.batch_size)]
        label = f"{self.name}: asking {len(seen)} references"
        return [answer for part in bar(parts, label) for answer in inner.answer(part)]


def _without_asked(references: ReferenceSet, held_out: frozenset[str]) -> ReferenceSet:
    """Those that are not asked in the same run: not even as neighbours do others teach anything here."""
    import torch

    rows = [row for row, q in enumerate(references.questions) if q.id not in held_out]
    return references if len(rows) == len(references) else references.subset(torch.tensor(rows, dtype=torch.long))


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Corrects an answerer's scores.

    Attributes:
        correction: that was fitted.
        inner: whose scores they are.
        bench: of the questions.
        fitting: FLOPs of the references' scores.
    """

    correction: Correction
    inner: Answerer
    bench: Bench
    fitting: float

    @property
    def needs_label(self) -> bool:
        return self.inner.needs_label

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """The other answerer's answers, by corrected scores."""
        answers, prompts = self.inner.answer(questions), self.bench.prompts(questions)
        found = []
        for question, prompt, answer in zip(questions, prompts, answers, strict=True):
            scores = self.correction(Scored(question, prompt, np.array(answer.scores)))
            found.append(replace(calibrated(answer, scores, Entry()), once=answer.once + self.fitting))
        return found
