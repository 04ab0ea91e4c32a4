"""Knowledge and pathway together: passages before the question, re-mixed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from c3po_adaptive import Answer, Answerer, AnswererStrategy, AnsweringContext, Question, SettingError, form_of

from .by_name import remix, still
from .passages import read_passages
from .search import PassageFile, PassageSearch, Training

if TYPE_CHECKING:
    from c3po_adaptive import Strategies

WAYS = ("neither", "text", "pathway", "both")
PENALTIES = np.logspace(-1, 4, 11)


@dataclass(frozen=True, kw_only=True)
class Informed(AnswererStrategy):
    """The passages of a file that are nearest to the question stand before it, and the arm's optimizer re-mixes what
    the model makes of that; with the optimizer ``none`` they are all there is.

    As many of them are used as fit the model's context together, the nearest last, with a warning where some do not;
    the answer's neighbours name them. A passage more similar to the question than ``max_similarity``, or of its id, is
    not used: it may be the question. The cost counts the longer prompt.

    With ``choose`` each question gets neither, the text, the pathway, or both: what is predicted to gain most beyond
    its price. The gain is by how far the right choice is ahead of the mean. It is predicted (ridge regression, penalty
    by cross-validation) from how many choices there are, how sure the model is of them by itself, and how near the
    nearest passage is, after each way was tried on ``training`` references that the others did not learn from.

    Attributes:
        passages: the file: JSON lines with a ``text`` each, solved examples, or plain text with blank lines between.
        k: how many passages.
        choose: whether to choose question by question.
        training: references that the choice is learned from.
        price: of a base forward, in nats of that lead.
    """

    passages: PassageFile
    k: PositiveInt = 1
    choose: bool = False
    training: Training = 64
    price: NonNegativeFloat = 0.0
    name: ClassVar[str] = "informed"
    likelihoods: ClassVar[bool] = True

    @property
    def files(self) -> tuple[str, ...]:  # type: ignore[override]  # a constant of most answerers
        return (self.passages,)

    def prepare(self, context: AnsweringContext) -> Answerer:
        search = PassageSearch(read_passages(self.passages), self.k, context)
        return _chosen(self, search, context) if self.choose else WithPassages(context, search)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        read_passages(self.passages)
        if self.choose:
            _check_count(self, references)
        remix().fits(strategies, layers, experts, references - self.training * self.choose)

    def learns(self, strategies: Strategies) -> bool:
        return self.choose or remix().learns(strategies)

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        return remix().used(strategies)


@dataclass(frozen=True, eq=False)
class WithPassages:
    """Answers with passages before each question."""

    context: AnsweringContext
    search: PassageSearch

    @cached_property
    def _remixer(self) -> Answerer:
        return self.context.remixer(self.search.put)

    @property
    def needs_label(self) -> bool:
        return self._remixer.needs_label

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, held against the plain one, at the price of its longer prompt."""
        self.search.check(questions)
        found = []
        for question, answer, plain in zip(
            questions, self._remixer.answer(questions), self.context.plain(questions), strict=True
        ):
            searched = answer.ledger.embedding + self.search.searched(question)
            ledger = replace(answer.ledger, embedding=searched)
            used = self.search.placed(question)[1]
            told = tuple((passage.id, similarity, 1 / len(used)) for passage, similarity in used)
            base = {name: getattr(plain, name) for name in ("base_flops", "base_choice", "base_scores")}
            once = answer.setup_flops + self.search.setup_flops
            found.append(
                replace(answer, ledger=ledger, neighbours=(*told, *answer.neighbours), setup_flops=once, **base)
            )
        return found


@dataclass(frozen=True, eq=False)
class ChosenWay:
    """Answers each question the way that is predicted to gain most beyond its price.

    Attributes:
        context: whose plain answers are what is known before.
        search: finds passages.
        ways: who answers in each way but ``neither``.
        model: predicts the gain of each of these.
        prices: of each of these, in nats.
        setup_flops: FLOPs that was spent before the first question, but for the passages' embeddings.
        reference_flops: of those, what is kept of each reference.
    """

    context: AnsweringContext
    search: PassageSearch
    ways: dict[str, Answerer]
    model: Any = field(repr=False)
    prices: NDArray[np.floating] = field(repr=False)
    setup_flops: float = 0.0
    reference_flops: float = 0.0

    @property
    def needs_label(self) -> bool:
        return any(way.needs_label for way in self.ways.values())

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.search.check(questions)
        plain = self.context.plain(questions)
        gain = self.model.predict(_features(self.search, questions, plain))
        worth = np.concatenate([np.zeros((len(plain), 1)), gain - self.prices], 1)
        chosen = [WAYS[way] for way in worth.argmax(1)]
        found = list(plain)
        for way, answerer in self.ways.items():
            rows = [b for b, name in enumerate(chosen) if name == way]
            for b, answer in zip(rows, answerer.answer([questions[b] for b in rows]), strict=True):
                found[b] = _after(plain[b], answer, longer=way != "pathway")
        whole = self.setup_flops + self.search.setup_flops
        return [
            self._weighed(question, answer, way, strength, whole)
            for question, answer, way, strength in zip(questions, found, chosen, gain.max(1), strict=True)
        ]

    def _weighed(self, question: Question, answer: Answer, way: str, gain: float, once: float) -> Answer:
        """With what choosing took: passages were looked for, whatever was chosen."""
        ledger = answer.ledger
        if way in ("neither", "pathway"):
            ledger = replace(ledger, embedding=ledger.embedding + self.search.searched(question))
        return replace(
            answer, ledger=ledger, strength=float(gain), setup_flops=once, reference_flops=self.reference_flops
        )


def _after(plain: Answer, answer: Answer, *, longer: bool) -> Answer:
    """An answer that was chosen after the plain one was known: if its prompt is another, both were read."""
    if not longer:
        return answer
    return replace(answer, ledger=replace(answer.ledger, prefill=plain.ledger.prefill + answer.ledger.prefill))


def _chosen(strategy: Informed, search: PassageSearch, context: AnsweringContext) -> ChosenWay:
    """After every way was tried on references that nothing else learned from."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = context.references_for(strategy.name).labeled_by(context.settings).questions
    _check_count(strategy, len(known))
    drawn = np.random.default_rng(context.settings.seed).permutation(len(known))[: strategy.training]
    tried = [known[row] for row in drawn]
    apart = context.holding_out(tried)
    plain = apart.plain(tried)
    silent = replace(search, context=apart, checked=[True])  # it is the questions' language that counts
    answers = {way: answerer.answer(tried) for way, answerer in _ways(apart, silent).items()}
    rights = [cast(int, q.answer) for q in tried]  # references are labeled
    before = np.array(list(map(_ahead, plain, rights)))
    gain = np.stack([list(map(_ahead, found, rights)) for found in answers.values()], 1)
    costs = [[a.cost.total / a.base_flops for a in found] for found in answers.values()]
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=PENALTIES))
    model.fit(_features(search, tried, plain), gain - before[:, None])
    tries = sum(a.cost.total for found in (plain, *answers.values()) for a in found)
    spent, kept = (max(getattr(a, what) for a in answers["pathway"]) for what in ("setup_flops", "reference_flops"))
    longer = np.array([way != "pathway" for way in answers])  # the plain prompt is read before a way is chosen
    prices = strategy.price * (np.mean(costs, 1) - 1 + longer)
    # what is learned is learned twice: without the references that ways are tried on, then for the questions
    once = tries + 2 * (spent - kept) + kept
    return ChosenWay(context, search, _ways(context, search), model, prices, once, kept)


def _check_count(strategy: Informed, known: int) -> None:
    if known < strategy.training:
        raise SettingError(
            f"{strategy.name} expected {strategy.training} references to learn the choice from, got {known}; give "
            "more, or set training to fewer."
        )


def _ways(context: AnsweringContext, search: PassageSearch) -> dict[str, Answerer]:
    silent = still(context)
    return {
        "text": WithPassages(silent, replace(search, context=silent)),
        "pathway": context.remixer(),
        "both": WithPassages(context, search),
    }


def _features(search: PassageSearch, questions: Sequence[Question], plain: Sequence[Answer]) -> NDArray[np.floating]:
    """``[N, 6]`` what is known of questions before a way is chosen."""
    form = [form_of(torch.tensor([answer.scores]))[0].tolist() for answer in plain]
    nearest = [max((s for _, s in search.near(question)), default=0.0) for question in questions]
    return np.concatenate([np.array(form), np.array(nearest)[:, None]], 1)


def _ahead(answer: Answer, right: int) -> float:
    """By how much the right choice leads the mean of all."""
    return answer.scores[right] - sum(answer.scores) / len(answer.scores)
