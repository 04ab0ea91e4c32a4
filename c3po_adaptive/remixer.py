"""The one orchestrator: prefill → retrieve → weigh → select → optimise → answer."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor

from .batch import Batch, Clock, Ways
from .errors import C3POError, PluginError, SettingError
from .kernels.base import Kernel
from .ledger import Ledger
from .models import RoutedModel
from .optimizers.base import PathwayOptimizer
from .practice import ReferencePractice
from .problem import Problem
from .reference import ReferenceSet
from .retrievers.base import Index, Retriever
from .routing.mixing import mass
from .routing.states import State
from .selectors.base import LayerSelector
from .tasks.formats import Format, description
from .types import (
    Answer,
    Head,
    Labels,
    LearnFrom,
    Mix,
    Neighbours,
    Pathway,
    Question,
    Scope,
    Selection,
    Target,
    Transfer,
)
from .warm import WarmStore, open_store

if TYPE_CHECKING:
    from .embedding import Embedder


MASS_TOLERANCE = 1e-4


@dataclass(eq=False)
class Remixer:
    """Answers questions along re-mixed pathways, with one strategy for each role.

    Attributes:
        model: the frozen model. references: None only for strategies that use no neighbours.
        optimizer, kernel, retriever, selector: the strategies. embedder: of retrieval.
        format: how questions are put. scope: where ω acts. transfer: how it enters a neighbour. target: the
            neighbours' loss. head: what a neighbour's likelihood is divided by.
        learn_from: which references may be neighbours. labels: theirs, or the control.
        mix: what the answer mixes. Optimisation always mixes the selected experts, so that each has a gradient.
        max_similarity: references nearer to the question than this are not used (the paper's contamination filter).
        batch_size: questions that are re-mixed together; half as many after running out of memory.
        held_out: ids of questions that are asked in the same run; if they are references, nothing learns from them.
        seed: of strategies that draw. warm_bytes: memory for states that are read from a warm store.
    """

    model: RoutedModel
    references: ReferenceSet | None
    optimizer: PathwayOptimizer
    kernel: Kernel
    retriever: Retriever
    selector: LayerSelector
    embedder: Embedder
    format: str | Format = "cloze"
    scope: Scope = "answer"
    transfer: Transfer = "replace"
    target: Target = "choices"
    head: Head = "tangent"
    mix: Mix = "core"
    learn_from: LearnFrom = "successful"
    labels: Labels = "own"
    max_similarity: float = 0.95
    batch_size: int = 32
    seed: int = 0
    held_out: frozenset[str] = frozenset()
    warm_bytes: int = 2**30
    pool: ReferenceSet | None = field(default=None, init=False)
    _warm: WarmStore | None = field(default=None, init=False)
    _index: Index | None = field(default=None, init=False)
    _rows: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.seed, Integral):
            raise SettingError(f"Expected seed to be a whole number, got {self.seed!r}.")
        if self.needs_neighbours:
            self._open()
        with _blamed("selector", self.selector):
            self.selector = self.selector.prepare(ReferencePractice(self))

    def _open(self) -> None:
        """The references, and what finds neighbours among them."""
        if self.references is None:
            raise SettingError(
                f"Expected a reference set for {self.optimizer.name} with {self.selector.name}, got none; pass refset=…"
            )
        self.references.check(self.model, self.format, self.embedder)
        self.references = self.references if self.labels == "own" else self.references.shuffled(self.seed)
        self.pool = self.references.pool if self.learn_from == "successful" else self.references
        if self.references.folder is not None:
            folder = self.references.folder / "warm"
            self._warm = open_store(self.references, self.model, folder, self.format, self.warm_bytes)
        self._rows = {q.id: i for i, q in enumerate(self.pool.questions)}
        with _blamed("retriever", self.retriever):
            self._index = self.pool.index(self.retriever)
        with _blamed("kernel", self.kernel):
            self.kernel = self.kernel.prepare(self.pool.embeddings.numpy())

    @property
    def needs_neighbours(self) -> bool:
        return self.optimizer.needs_neighbours or self.selector.needs_neighbours

    @property
    def needs_label(self) -> bool:
        """Whether its answers are an upper bound."""
        return self.optimizer.needs_label or self.selector.needs_label

    @property
    def shows_neighbours(self) -> bool:
        """Whether the retrieved neighbours had a part in the answer: an optimizer may search for its own."""
        return self.selector.needs_neighbours or (
            self.optimizer.needs_neighbours and not self.optimizer.searches_pathways
        )

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions. Labels are looked at only by upper bounds that ask for them."""
        answers: list[Answer] = []
        while len(answers) < len(questions):
            part = questions[len(answers) :][: self.batch_size]
            answers += self._fitting(part) or self._halved(len(part))
        return answers

    def _fitting(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers, or none if the batch does not fit in memory."""
        try:
            return self._answer(questions)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if len(questions) == 1:
                raise SettingError(
                    f"Expected memory for one question with its neighbours, got: {error} Take fewer neighbours, a "
                    "smaller dtype, or another device."
                ) from error
            return []

    def _halved(self, size: int) -> list[Answer]:
        """From now on half the batch; no answers yet."""
        self.batch_size = size // 2
        warnings.warn(
            f"{size} questions together did not fit in memory; going on with {self.batch_size}.", stacklevel=3
        )
        clear_device_cache(garbage_collection=True)
        return []

    def _answer(self, questions: Sequence[Question]) -> list[Answer]:
        clock = Clock(len(questions))
        with clock("prefill"):
            states = self.model.prefill([self.model.encode(q, self.format) for q in questions])
        run = self.remix(states, [description(q) for q in questions], questions)
        tails = self.model.tail_scores(states, run.pathway)
        with clock("answer"), torch.no_grad():
            scores = tails(run.pathway.weights)
        base = self.model.choice_scores(states)
        pool = self.pool if self.shows_neighbours else None
        ledgers = [
            replace(
                ledger,
                prefill=ledger.prefill.lasting(clock.seconds["prefill"]),
                answer=spent.lasting(clock.seconds["answer"]),
            )
            for ledger, spent in zip(run.ledgers, tails.spent, strict=True)
        ]
        return [run.answer(b, scores[b, : len(base[b])], base[b], ledgers[b], pool) for b in range(len(questions))]

    def remix(
        self, states: Sequence[State], texts: Sequence[str], questions: Sequence[Question] | None = None
    ) -> Remixed:
        """Re-mix prefilled prompts whose neighbours are those of ``texts``; ``questions`` if labels may be known."""
        batch = self._batch(states, texts, questions, labelled=self.needs_label)
        clock = batch.clock
        with clock("attribution"), _blamed("selector", self.selector):
            choosing = batch.problem(labelled=self.selector.needs_label)
            selection = self.selector.select(choosing)
            _check_selection(selection, choosing, self.selector)
        with clock("optimisation"), _blamed("optimizer", self.optimizer):
            problem = batch.problem(labelled=self.optimizer.needs_label, selection=selection)
            weights = self.optimizer.optimize(problem).detach()
            _check_weights(weights, problem, self.optimizer)
        pathway = Pathway(weights, batch.own, self.model.layers, self.scope, self._top_k)
        embedded = [self.embedder.flops(t) if self.needs_neighbours else 0.0 for t in texts]
        return Remixed(states, pathway, selection, batch.neighbours, batch.ledgers(embedded))

    def problem(self, questions: Sequence[Question]) -> Problem:
        """What a selector looks at, without labels."""
        states = self.model.prefill([self.model.encode(q, self.format) for q in questions])
        return self._batch(states, [description(q) for q in questions], questions, labelled=False).problem()

    def labelled(self, questions: Sequence[Question]) -> Batch:
        """Questions with their labels, each without itself among its neighbours: to look into."""
        return self._labelled(questions, frozenset())

    def practising(self, questions: Sequence[Question]) -> Batch:
        """Labelled references to learn from; none that is held out is their neighbour, either."""
        return self._labelled(questions, self.held_out)

    def _labelled(self, questions: Sequence[Question], unseen: frozenset[str]) -> Batch:
        states = self.model.prefill([self.model.encode(q, self.format) for q in questions], keep=False)
        return self._batch(states, [description(q) for q in questions], questions, labelled=True, unseen=unseen)

    def _batch(
        self,
        states: Sequence[State],
        texts: Sequence[str],
        questions: Sequence[Question] | None,
        *,
        labelled: bool,
        unseen: frozenset[str] = frozenset(),
    ) -> Batch:
        """The samples with their neighbours; with ``questions`` to know them by, whose labels may be known or not."""
        clock = Clock(len(states))
        with clock("embedding"):
            vectors = self.embedder.encode(list(texts)) if self._index is not None else None
        with clock("retrieval"):
            neighbours, excluded = self._retrieve(vectors, texts, questions, unseen)
        ways = Ways(self.format, self.scope, self.transfer, self.target, self.head, self.mix)
        known = questions if labelled else None
        return Batch(self.model, ways, self.pool, states, neighbours, excluded, known, self._warm, clock, self.seed)

    @property
    def _top_k(self) -> int | None:
        return self.model.sites[0].top_k if self.mix == "top-k" else None

    def _retrieve(
        self,
        vectors: NDArray[np.float32] | None,
        texts: Sequence[str],
        questions: Sequence[Question] | None,
        unseen: frozenset[str],
    ) -> tuple[Neighbours, tuple[frozenset[int], ...] | None]:
        """Neighbours with kernel weights, and the reference rows that a sample must not see in pathway space either."""
        if self.pool is None or self._index is None or vectors is None:
            nothing = torch.zeros(len(texts), 0)
            return Neighbours(nothing.long(), nothing, nothing), ()
        ids = self._rows
        away = {ids[id_] for id_ in unseen if id_ in ids}
        itself = [away | ({ids[q.id]} if q.id in ids else set()) for q in questions or ()] or [away for _ in texts]
        with _blamed("retriever", self.retriever):
            keys = [zlib.crc32(repr((self.seed, text)).encode()) for text in texts]
            hits = self._index.search(vectors, exclude=itself, max_similarity=self.max_similarity, keys=keys)
        weights = np.zeros(hits.index.shape)
        for b, row in enumerate(hits.index):
            near = row[row >= 0]
            if len(near):
                with _blamed("kernel", self.kernel):
                    values = self.kernel(vectors[b : b + 1], self.pool.embeddings.numpy()[near])[0].clip(0)
                weights[b, : len(near)] = values / values.sum() if values.sum() > 0 else 0
        if not self.optimizer.searches_pathways:  # nobody looks; among a million it would take longer than the rest
            excluded = None
        else:
            similar = vectors @ self.pool.embeddings.numpy().T > self.max_similarity
            excluded = tuple(
                frozenset(np.flatnonzero(s).tolist()) | frozenset(i) for s, i in zip(similar, itself, strict=True)
            )
        index = torch.from_numpy(hits.index.astype(np.int64))
        return Neighbours(index, torch.from_numpy(hits.similarity).float(), torch.from_numpy(weights).float()), excluded


@dataclass(frozen=True, eq=False)
class Remixed:
    """A batch after optimisation; its ledgers are those up to the answer."""

    states: Sequence[State]
    pathway: Pathway
    selection: Selection
    neighbours: Neighbours
    ledgers: Sequence[Ledger]

    def answer(self, b: int, scores: Tensor, base: Tensor, ledger: Ledger, pool: ReferenceSet | None) -> Answer:
        """Sample b's answer and how it came about; its neighbours are rows of ``pool``, None to leave them out."""
        pathway, changed = self.pathway[b], self.pathway.changed()[b]
        moved = changed.nonzero().squeeze(1).tolist()
        experts = {
            pathway.layers[i]: (pathway.weights[i] != pathway.own[i]).nonzero().squeeze(1).tolist() for i in moved
        }
        n = self.neighbours
        near = [k for k, row in enumerate(n.index[b].tolist()) if row >= 0]
        return Answer(
            choice=int(scores.argmax()),
            scores=tuple(scores.tolist()),
            base_choice=int(base.argmax()),
            base_scores=tuple(base.tolist()),
            pathway=pathway,
            ledger=ledger,
            layers=tuple(pathway.layers[i] for i in moved),
            experts={layer: tuple(ids) for layer, ids in experts.items()},
            neighbours=tuple(
                (pool.questions[int(n.index[b, k])].id, n.similarity[b, k].item(), n.weight[b, k].item())
                for k in near
                if pool is not None
            ),
            layer_scores=() if self.selection.scores is None else tuple(self.selection.scores[b].tolist()),
            strength=None if self.selection.strength is None else self.selection.strength[b].item(),
        )


@contextmanager
def _blamed(role: str, strategy: Any) -> Iterator[None]:
    """An unforeseen error in a strategy is that strategy's, by name."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:
        if should_reduce_batch_size(error):  # no fault of the strategy
            raise
        raise PluginError(
            f"Expected {role} {strategy.name!r} to work, got {type(error).__name__}: {error}; "
            f"correct it, or choose another {role}."
        ) from error


def _check_weights(weights: Tensor, problem: Problem, optimizer: PathwayOptimizer) -> None:
    shape, selection = tuple(problem.own.shape), cast(Selection, problem.selection)
    if tuple(weights.shape) != shape or not weights.isfinite().all() or (weights < 0).any():
        got = f"{tuple(weights.shape)} from {weights.min().item():g} to {weights.max().item():g}"
        wanted = f"finite weights >= 0 of shape (B, L, E) = {shape}"
    elif (drift := (mass(weights) - mass(problem.own)).abs().max().item()) > MASS_TOLERANCE:
        wanted, got = "weights that keep the mass of each layer", f"a sum that differs by {drift:g}"
    elif ((weights != problem.own) & ~selection.layers.unsqueeze(-1)).any():
        wanted, got = "the model's own weights in layers that are not selected", "others"
    elif ((weights > 0) & ~(selection.mask | (problem.own > 0))).any():
        wanted, got = "no weight on experts that are neither selected nor the model's own", "some"
    else:
        return
    raise PluginError(
        f"Expected optimizer {optimizer.name!r} to return {wanted}, got {got}; correct it, or choose another optimizer."
    )


def _check_selection(selection: Selection, problem: Problem, selector: LayerSelector) -> None:
    if selection.mask.shape != problem.own.shape or selection.mask.dtype != torch.bool:
        raise SettingError(
            f"Expected selector {selector.name!r} to return a bool mask (B, L, E) = {tuple(problem.own.shape)}, got "
            f"{selection.mask.dtype} {tuple(selection.mask.shape)}."
        )
    shape = tuple(problem.own.shape[:2])
    for what, values, wanted in (
        ("scores (B, L)", selection.scores, shape),
        ("strength (B)", selection.strength, shape[:1]),
    ):
        if values is None or (tuple(values.shape) == wanted and values.isfinite().all()):
            continue
        got = "NaN or infinity among them" if tuple(values.shape) == wanted else f"{tuple(values.shape)}"
        raise SettingError(f"Expected selector {selector.name!r} to return finite {what} = {wanted}, got {got}.")
