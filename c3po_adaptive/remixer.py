"""The one orchestrator: prefill → retrieve → weigh → select → optimise → answer."""

from __future__ import annotations

import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor

from .errors import C3POError, DataError, PluginError, SettingError
from .gradients import own_changes, own_gradients
from .kernels.base import Kernel
from .ledger import Entry, Ledger, Work, summed
from .losses import entropy, right_answer_loss
from .models import RoutedModel
from .optimizers.base import PathwayOptimizer
from .problem import LabelledProblem, Problem
from .reference import ReferenceSet
from .retrievers.base import Index, Retriever
from .routing.mixing import mass
from .routing.scores import TailScores
from .routing.states import State
from .selectors.base import LayerSelector
from .tasks.formats import Format, description
from .types import Answer, Head, Mix, Neighbours, Pathway, Prompt, Question, Scope, Selection, Target, Transfer
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
        mix: what the answer mixes. Optimisation always mixes the selected experts, so that each has a gradient.
        max_similarity: references nearer to the question than this are not used (the paper's contamination filter).
        batch_size: questions that are re-mixed together; half as many after running out of memory.
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
    max_similarity: float = 0.95
    batch_size: int = 32
    seed: int = 0
    warm_bytes: int = 2**30
    pool: ReferenceSet | None = field(default=None, init=False)
    _warm: WarmStore | None = field(default=None, init=False)
    _index: Index | None = field(default=None, init=False)
    _rows: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.needs_neighbours:
            return
        if self.references is None:
            raise SettingError(
                f"Expected a reference set for {self.optimizer.name} with {self.selector.name}, got none; pass refset=…"
            )
        self.references.check(self.model, self.format, self.embedder)
        self.pool = self.references.pool
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
    def shows_neighbours(self) -> bool:
        """Whether the retrieved neighbours had a part in the answer: an optimizer may search for its own."""
        return self.selector.needs_neighbours or (
            self.optimizer.needs_neighbours and not self.optimizer.searches_pathways
        )

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions. Labels are looked at only if the optimizer is an upper bound that asks for them."""
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
        clock = _Clock(len(questions))
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
        clock = _Clock(len(states))
        with clock("embedding"):
            vectors = self.embedder.encode(list(texts)) if self._index is not None else None
        with clock("retrieval"):
            neighbours, excluded = self._retrieve(vectors, texts, questions)
        tails = self._tails(states, questions if self.optimizer.needs_label else None, neighbours, clock)
        own = torch.stack([s.own for s in states])
        choosing = _Losses(self, tails, own, None)
        problem = self._problem(states, own, neighbours, excluded, choosing)
        with clock("attribution"), _blamed("selector", self.selector):
            selection = self.selector.select(problem)
            _check_selection(selection, problem, self.selector)
        moving = _Losses(self, tails, own, selection)
        problem = replace(problem, selection=selection, loss=moving.neighbourhood, entropy=moving.entropy)
        if self.optimizer.needs_label:
            problem = LabelledProblem(**vars(problem), label_loss=moving.label)
        with clock("optimisation"), _blamed("optimizer", self.optimizer):
            weights = self.optimizer.optimize(problem).detach()
            _check_weights(weights, problem, self.optimizer)
        pathway = Pathway(weights, own, self.model.layers, self.scope, self._top_k)
        embedded = [self.embedder.flops(t) if self.needs_neighbours else 0.0 for t in texts]
        prepared = moving.prepared if any(e.flops for e in moving.prepared) else choosing.prepared
        references = [a + b for a, b in zip(tails.work, prepared, strict=True)]
        spent = {"references": references, "attribution": choosing.spent, "optimisation": moving.spent}
        spent["embedding"] = [Entry(forward=Work(linear=flops)) for flops in embedded]
        spent["retrieval"] = [Entry()] * len(states)
        ledgers = [
            Ledger(
                prefill=state.work,
                **{phase: entries[b].lasting(clock.seconds[phase]) for phase, entries in spent.items()},
            )
            for b, state in enumerate(states)
        ]
        return Remixed(states, pathway, selection, neighbours, ledgers)

    @property
    def _top_k(self) -> int | None:
        return self.model.sites[0].top_k if self.mix == "top-k" else None

    def _retrieve(
        self, vectors: NDArray[np.float32] | None, texts: Sequence[str], questions: Sequence[Question] | None
    ) -> tuple[Neighbours, tuple[frozenset[int], ...] | None]:
        """Neighbours with kernel weights, and the reference rows that a sample must not see in pathway space either."""
        if self.pool is None or self._index is None or vectors is None:
            nothing = torch.zeros(len(texts), 0)
            return Neighbours(nothing.long(), nothing, nothing), ()
        ids = self._rows
        itself = [{ids[q.id]} if q.id in ids else set() for q in questions] if questions else [set() for _ in texts]
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

    def _tails(
        self,
        states: Sequence[State],
        questions: Sequence[Question] | None,
        neighbours: Neighbours,
        clock: _Clock,
    ) -> _Tails:
        pairs = (neighbours.weight > 0).nonzero()
        prompts: list[Prompt] = []
        answers = torch.empty(0, dtype=torch.long)
        if len(pairs) and self.pool is not None:
            rows = neighbours.index[pairs[:, 0], pairs[:, 1]].tolist()
            asked = [self.pool.questions[r] for r in rows]
            prompts = [self.model.encode(q, self.format) for q in asked]
            answers = torch.tensor([q.answer for q in asked])
        labels = None if questions is None else [q.answer for q in questions]
        weight = neighbours.weight[pairs[:, 0], pairs[:, 1]]
        return _Tails(self.model, states, prompts, pairs[:, 0], weight, answers, labels, clock, self._warm)

    def _problem(
        self,
        states: Sequence[State],
        own: Tensor,
        neighbours: Neighbours,
        excluded: tuple[frozenset[int], ...] | None,
        losses: _Losses,
    ) -> Problem:
        pathways = own.new_zeros(0, *own.shape[1:]) if self.pool is None else self.pool.pathways
        near = own.new_zeros(*neighbours.index.shape, *own.shape[1:])
        found = neighbours.index >= 0
        near[found] = pathways[neighbours.index[found]]
        alone = {"scope": self.scope, "target": self.target}
        return Problem(
            own=own,
            router=torch.stack([s.router for s in states]),
            layers=self.model.layers,
            neighbours=neighbours,
            neighbour_pathways=near,
            reference_pathways=pathways,
            loss=losses.neighbourhood,
            entropy=losses.entropy,
            neighbour_gradients=lambda: losses.tails.each(neighbours, own_gradients, **alone),
            neighbour_changes=lambda descent: losses.tails.each(
                neighbours, own_changes, descent=descent, head=self.model.head_for(self.head), **alone
            ),
            generators=tuple(
                torch.Generator().manual_seed(zlib.crc32(repr((self.seed, s.prompt)).encode())) for s in states
            ),
            excluded=excluded,
        )


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
        )


@dataclass(frozen=True, eq=False)
class _Tails:
    """What a batch's losses run on: the samples' own tails, and those of all their neighbours in one row.

    ``labels`` are there only for an upper bound: what is not here no strategy can look at.
    """

    model: RoutedModel
    states: Sequence[State]
    prompts: Sequence[Prompt]
    sample: Tensor
    weight: Tensor
    answers: Tensor
    labels: Sequence[int | None] | None
    clock: _Clock
    warm: WarmStore | None

    @cached_property
    def near(self) -> list[State]:
        """The neighbours, run when a loss first needs them."""
        with self.clock("references"):
            return self.model.prefill(self.prompts) if self.warm is None else self.warm.states(self.prompts)

    def each(self, neighbours: Neighbours, computed: Callable[..., Tensor], **settings: Any) -> Tensor:
        """``[B, K, L, E]`` of what is ``computed`` of every neighbour once, zeros where there is none."""
        near = neighbours.weight > 0
        found = torch.zeros(*near.shape, *self.states[0].own.shape)
        if self.prompts:
            states = self.model.prefill if self.warm is None else self.warm.states
            found[near] = computed(self.model, self.prompts, self.answers.tolist(), states, **settings)
        return found

    @property
    def work(self) -> list[Entry]:
        """What each sample's neighbours took, in full even if they were kept; nothing if no loss looked at them."""
        near = [state.work for state in (self.near if "near" in vars(self) else [])]
        mine: list[list[Entry]] = [[] for _ in self.states]
        for b, entry in zip(self.sample.tolist(), near, strict=False):
            mine[b].append(entry)
        return [summed(entries) for entries in mine]


class _Losses:
    """The losses of one phase, with every layer acting (selection None) or the selected ones."""

    def __init__(self, remixer: Remixer, tails: _Tails, own: Tensor, selection: Selection | None) -> None:
        self.remixer, self.tails, self.own = remixer, tails, own
        everywhere = torch.ones(own.shape[:2], dtype=torch.bool)
        self.active = everywhere if selection is None else selection.layers
        self.support = None if selection is None else selection.mask | (own > 0)

    @property
    def spent(self) -> list[Entry]:
        """So far, of each sample."""
        used = [scores.spent for scores in self._used]
        return [summed(entries[b] for entries in used) for b in range(len(self.own))]

    @property
    def prepared(self) -> list[Entry]:
        """What the tangents of each sample's neighbours took, in full even if they were kept."""
        used = [scores.prepared for scores in self._used]
        return [summed(entries[b] for entries in used) for b in range(len(self.own))]

    @property
    def _used(self) -> list[TailScores]:
        return [vars(self)[name] for name in ("_near", "_own") if name in vars(self)]

    def neighbourhood(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        t = self.tails
        if not t.prompts:
            return (weights * 0).sum((1, 2))
        losses = right_answer_loss(self._near(weights, running), t.answers, self.remixer.target)
        return losses.new_zeros(len(self.own)).index_add(0, t.sample, t.weight * losses)

    def label(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        labels = self.tails.labels
        if labels is None or any(a is None for a in labels):
            raise DataError(
                "The oracle expected the answer of every question, got none for some; give labelled questions."
            )
        return right_answer_loss(self._own(weights, running), torch.tensor(labels), self.remixer.target)

    def entropy(self, weights: Tensor, running: Tensor | None = None) -> Tensor:
        if not all(s.prompt.options for s in self.tails.states):
            raise SettingError("Expected questions with choices to take the entropy over, got raw text; use answer().")
        return entropy(self._own(weights, running))

    @cached_property
    def _near(self) -> TailScores:
        r = self.remixer
        return self._scores(self.tails.near, self.tails.sample, r.transfer, r.model.head_for(r.head))

    @cached_property
    def _own(self) -> TailScores:
        return self._scores(self.tails.states, torch.arange(len(self.own)), "replace", "full")

    def _scores(self, tails: Sequence[State], sample: Tensor, transfer: Transfer, head: Head) -> TailScores:
        m = self.remixer.model
        return TailScores(
            m.model,
            m.sites,
            m.flops,
            tails,
            sample,
            self.own,
            self.active,
            self.support,
            self.remixer.scope,
            transfer,
            head=head,
            relative=m.letters_alone and self.remixer.target == "choices",
        )


class _Clock:
    """Seconds of each phase, for one of ``samples``; a phase inside another stops the other's time."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._turn()
        self._running.append(phase)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += (now - self._since) / self.samples
        self._since = now


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
    shape, selection = tuple(problem.own.shape), problem.selection
    assert selection is not None
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
