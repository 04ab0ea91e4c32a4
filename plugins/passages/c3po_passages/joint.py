"""Knowledge and pathway as one sum: each passage, and each re-mixed or not, with a weight that references taught.

A question x is put alone (z = 0) and behind each of its k nearest passages (z = 1 … k), along the model's own pathway
(r = 0) and re-mixed (r = 1), and its answer y is what all of them say together:

    p(y|x) = Σ_zr p(z,r|x) p(y|x,z,r),   p(z,r|x) ∝ exp(θ·φ(x,z,r) − price · tokens(z)).

That is RAG's marginal likelihood over the top few passages (Lewis et al. 2020, arXiv 2005.11401) of a frozen reader. In
place of its trained retriever stands the score θ·φ: the embedder's similarity, how sure the model is alone, and what
references near x gained by the same (z,r). θ is what makes references' right answers likeliest under that sum. ω is
descended under it, too: with the neighbours' kernel weights K_i,

    ∇ −Σ_i K_i log Σ_z p(z|x_i) p(y_i|x_i,z,ω) = Σ_i K_i Σ_z p(z|x_i,y_i) ∇ −log p(y_i|x_i,z,ω),

so a reference teaches behind its own passages, each by its posterior. First θ is fitted with nothing re-mixed, then
posteriors give ω, then θ is fitted again with r: one round of expectation and maximization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import NonNegativeFloat, PositiveInt

from c3po_adaptive import (
    Answer,
    Answerer,
    AnswererStrategy,
    AnsweringContext,
    Entry,
    Prompt,
    Question,
    RemixSettings,
    SettingError,
)

from .by_name import remix, still
from .choice import Array, heavy, posterior
from .passages import read_passages
from .score import PassageScore, Put
from .search import PassageFile, PassageSearch, Told, Training
from .told_references import ToldReferences

if TYPE_CHECKING:
    from torch import Tensor

    from c3po_adaptive import ReferenceArtifact, ReferenceSet, Remixer, Strategies


@dataclass(frozen=True, kw_only=True)
class Joint(AnswererStrategy):
    """A question alone and behind each of its nearest passages, as the model routes and re-mixed, in one weighted sum.

    It is RAG (Lewis et al. 2020, arXiv 2005.11401), p(y|x) = Σ_z p(z|x) p(y|x,z) over the top few passages z, with
    three changes: the reader is frozen; p(z|x) is a score that references taught, not a trained retriever; and each z
    stands in the sum twice, along the model's own pathway and re-mixed. The arm's optimizer descends the references'
    loss under the same sum if it goes by what each of them teaches (``integrated-step``, ``amortized-ngd``). One that
    runs its neighbours (``ngd``) runs them without passages; with ``none`` passages alone are weighed. What weighs less
    than 0.02 before it is read is not read.

    Every reference teaches, answered right or wrong, whatever ``learn_from`` says: those answered right alone cannot
    tell where a passage helps. Scores are logarithms of the sum. Neighbours name passages that were read, with weights.

    Attributes:
        passages: the file: JSON lines with a ``text`` each, solved examples, or plain text with blank lines between.
        k: how many passages are candidates, each by itself.
        training: references that the score is learned from.
        price: of a passage's token, in nats of the score.
    """

    passages: PassageFile
    k: PositiveInt = 2
    training: Training = 64
    price: NonNegativeFloat = 0.0
    name: ClassVar[str] = "joint"

    @property
    def files(self) -> tuple[str, ...]:  # type: ignore[override]  # a constant of most answerers
        return (self.passages,)

    def prepare(self, context: AnsweringContext) -> Answerer:
        return _learned(self, context)

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        read_passages(self.passages)
        self.check_count(references)
        remix().fits(strategies, layers, experts, references)

    def check_count(self, known: int) -> None:
        """Refuse fewer references than the score is learned from.

        Raises:
            SettingError: there are fewer.
        """
        if known < self.training:
            raise SettingError(
                f"{self.name} expected {self.training} references that are not asked themselves to learn the score "
                f"from, got {known}; give more, or set training to fewer."
            )

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        selector = ("selector",) if strategies.re_mixes else ()
        settings = (name for name in RemixSettings.model_fields if name != "learn_from")
        return ("optimizer", "kernel", "retriever", *selector, *settings)


@dataclass(frozen=True, eq=False)
class JointAnswerer:
    """Answers by the sum over passages and pathways.

    Attributes:
        context: whose plain answers are known before anything else is read.
        search: finds passages.
        score: weighs what is not read yet.
        still: who answers along the model's own pathway, alone and behind the passage of each rank.
        moved: who re-mixes, likewise; () where nothing is re-mixed.
        setup_flops: FLOPs that were spent before the first question.
        reference_flops: of those, what is kept of each reference.
    """

    context: AnsweringContext
    search: PassageSearch
    score: PassageScore
    still: Sequence[Remixer]
    moved: Sequence[Remixer] = ()
    setup_flops: float = 0.0
    reference_flops: float = 0.0

    @property
    def needs_label(self) -> bool:
        return any(answerer.needs_label for answerer in self.moved)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, at the price of the question alone and of each passage that was read."""
        plain = self.context.plain(questions)
        told = [self.search.each(question) for question in questions]
        prior = self.score.prior(Put(questions, told, [answer.scores for answer in plain]))
        read = self.read(questions, prior)
        found = []
        for b, question in enumerate(questions):
            mine = {z: read[b, z] for z in range(len(told[b])) if (b, z) in read}
            start = replace(plain[b], ledger=replace(plain[b].ledger, embedding=self.search.searched(question)))
            found.append(
                replace(
                    _summed(start, told[b], prior[b], mine),
                    setup_flops=self.setup_flops,
                    reference_flops=self.reference_flops,
                )
            )
        return found

    def read(self, questions: Sequence[Question], prior: Array) -> dict[tuple[int, int], Answer]:
        """Answers by question and place of the passage, where ``prior [B, R, 1 + k]`` has weight, but for those that
        are known: alone, and as the model routes.
        """
        found: dict[tuple[int, int], Answer] = {}
        moves, stays = prior[:, 1:].sum(1) > 0, prior[:, 0] > 0
        stays[:, 0] = False
        for z in range(prior.shape[2]):
            for who, rows in ((self.moved, moves[:, z]), (self.still, stays[:, z] & ~moves[:, z])):
                asked = rows.nonzero()[0].tolist()
                if asked:
                    answers = who[z].answer([questions[b] for b in asked])
                    found.update(zip([(b, z) for b in asked], answers, strict=True))
        return found


def _summed(plain: Answer, told: Sequence[Told], prior: Array, read: Mapping[int, Answer]) -> Answer:
    """The sum of what was read of one question, by place, with weights ``prior [R, 1 + k]``."""
    from scipy.special import log_softmax, logsumexp

    ways = [{0: plain.scores} | {z: answer.base_scores for z, answer in read.items()}]
    ways += [{z: answer.scores for z, answer in read.items()}] if len(prior) > 1 else []
    logs = [np.log(prior[r, z]) + log_softmax(own[z]) for r, own in enumerate(ways) for z in own if prior[r, z] > 0]
    scores, weight, ledger = logsumexp(logs, 0), prior.sum(0), plain.ledger
    for z, answer in read.items():
        again = {"embedding": Entry()} if z else {"embedding": Entry(), "prefill": Entry()}
        ledger += replace(answer.ledger, **again)
    passages = [(p.id, told[z].similarity, float(weight[z])) for z in read if (p := told[z].passage) is not None]
    moved = [answer.neighbours for z, answer in read.items() if prior[1:, z].any()]
    return replace(
        plain,
        choice=int(scores.argmax()),
        scores=tuple(scores.tolist()),
        ledger=ledger,
        layers=tuple(sorted({layer for answer in read.values() for layer in answer.layers})),
        neighbours=(*passages, *(moved[0] if moved else ())),
        strength=float(1 - prior[0, 0]),
    )


def _learned(strategy: Joint, context: AnsweringContext) -> JointAnswerer:
    """After both fits, the second with the pathways that the first gives."""
    from scipy.special import log_softmax

    known = _teaching(strategy, context)
    settings = context.settings.model_copy(update={"learn_from": "all"})
    context = replace(context, settings=settings, build_references=lambda: known)
    search = PassageSearch(read_passages(strategy.passages), strategy.k, context)
    search.check(known.questions)
    told = ToldReferences(known, search)
    tried = np.random.default_rng(settings.seed).permutation(len(known))[: strategy.training].tolist()
    put = Put(known.questions, told.told, known.scores)

    right = told.right[:, None]
    score = PassageScore.learned_from(right, put, tried, context.neighbours, strategy.price)
    prior = score.prior(put)
    told.share = heavy(posterior(prior[:, 0], told.right))
    made = JointAnswerer(context, search, score, _by_place(still(context), search))
    if not context.strategies.re_mixes:
        return replace(made, setup_flops=told.flops, reference_flops=told.flops)

    made = replace(made, moved=_by_place(context, search, told.teach))
    asked = [known.questions[row] for row in tried]
    read = made.read(asked, np.repeat(prior[tried], 2, 1))
    right = np.concatenate([right, np.full_like(right, -np.inf)], 1)
    for (b, z), answer in read.items():
        right[tried[b], 1, z] = log_softmax(answer.scores)[asked[b].answer]
    score = PassageScore.learned_from(right, put, tried, context.neighbours, strategy.price)
    tries = sum(answer.cost.total for answer in read.values())
    learned = made.moved[0].setup_flops - made.moved[0].reference_flops
    return replace(made, score=score, setup_flops=told.flops + tries + learned, reference_flops=told.flops)


def _by_place(
    context: AnsweringContext,
    search: PassageSearch,
    teach: Callable[[ReferenceArtifact, Sequence[int]], Tensor] | None = None,
) -> list[Remixer]:
    """Who answers questions alone, and behind the passage of each rank."""
    return [context.remixer(partial(_put, search, z), teach) for z in range(1 + search.k)]


def _put(search: PassageSearch, z: int, question: Question) -> Prompt:
    return search.each(question)[z].prompt


def _teaching(strategy: Joint, context: AnsweringContext) -> ReferenceSet:
    """The references that are not asked themselves, labeled as the settings say."""
    labeled = context.references_for(strategy.name).labeled_by(context.settings)
    kernel, retriever = context.strategies.kernel, context.strategies.retriever
    if kernel.learns or retriever.learns:
        raise SettingError(
            f"{strategy.name} expected a kernel and a retriever that go by texts, got {kernel.name} and "
            f"{retriever.name}, of which one learns; choose gaussian and faiss-knn, say."
        )
    strategy.check_count(len(labeled))
    return labeled
