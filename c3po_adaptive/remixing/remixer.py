"""The one orchestrator: prefill → retrieve → weigh → select → optimize → answer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor

from ..errors import C3POError, PluginError, SettingError, place_of
from ..ledger import Ledger
from ..models.routed import RoutedModel
from ..optimizers.base import PathwayOptimizer
from ..problem import Problem, ReferenceArtifact
from ..references.prefill_store import PrefillStore, open_store
from ..references.reference_set import ReferenceSet
from ..retrievers.base import Index
from ..routing.mixing import mass
from ..routing.states import State
from ..selectors.base import LayerSelector
from ..settings import DEFAULTS, RemixSettings
from ..tasks.formats import Format, description
from ..types import Answer, Neighbours, Pathway, Question, Selection, draw_key
from .clock import Clock
from .sample_batch import SampleBatch
from .strategies import Strategies
from .training import ReferenceTraining

if TYPE_CHECKING:
    from ..references.embedding import Embedder


MASS_TOLERANCE = 1e-4


@dataclass(eq=False)
class Remixer:
    """Answers questions along re-mixed pathways; an ``Answerer``.

    Attributes:
        model: the frozen model.
        references: None only for strategies that use no neighbours.
        strategies: one for each role.
        embedder: of retrieval.
        format: how questions are put.
        settings: how pathways act and what is learned from: a ``RemixSettings``, or a mapping of its values.
        batch_size: questions that are re-mixed together; half as many after running out of memory.
        held_out: ids of questions that are asked in the same run; if they are references, nothing learns from them.
        store_bytes: memory for states that are read from a prefill store.
        candidates: the references that may be neighbours; None where nothing looks at any.

    Raises:
        SettingError: a setting that does not exist, or no references where there have to be some.
    """

    model: RoutedModel
    references: ReferenceSet | None
    strategies: Strategies
    embedder: Embedder
    format: str | Format = "cloze"
    settings: RemixSettings = DEFAULTS
    batch_size: int = 32
    held_out: frozenset[str] = frozenset()
    store_bytes: int = 2**30
    candidates: ReferenceSet | None = field(default=None, init=False)
    _store: PrefillStore | None = field(default=None, init=False)
    _index: Index | None = field(default=None, init=False)
    _rows: dict[str, int] = field(default_factory=dict, init=False)
    _learned_from: dict[ReferenceArtifact, float] = field(default_factory=dict, init=False)
    _spent: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.settings = RemixSettings.of(self.settings)
        with self.model.lock:
            if self.strategies.needs_references:
                self._open()
            first = replace(self.training, taken=0, left=self.strategies.selector.references_needed)
            optimizer = self._prepared("optimizer", PathwayOptimizer, first)
            self.strategies = replace(self.strategies, optimizer=optimizer)
            selector = self._prepared("selector", LayerSelector, self.training)
            self.strategies = replace(self.strategies, selector=selector)

    def _prepared(self, role: str, base: type, training: ReferenceTraining) -> Any:
        """The strategy of a role after it learned what it has to."""
        strategy = getattr(self.strategies, role)
        with _blamed(role, strategy, "prepare"):
            prepared = strategy.prepare(training)
            if not isinstance(prepared, base):
                raise PluginError(
                    f"Expected {role} {strategy.name!r} to prepare {'an' if role == 'optimizer' else 'a'} {role}, got "
                    f"{type(prepared).__name__}; return one, or self."
                )
        return prepared

    def _open(self) -> None:
        """The references, and what finds neighbours among them if any are looked for."""
        s = self.strategies
        if self.references is None:
            raise SettingError(
                f"Expected a reference set for {s.optimizer.name} with {s.selector.name}, got none; pass refset=…"
            )
        self.references.check(self.model, self.format, self.embedder)
        if s.needs_neighbours:
            self.candidates = self.references.candidates(self.settings)
        self.references = self.references.labeled_by(self.settings)
        if self.candidates is not None:
            self._open_neighbours(self.references, self.candidates)

    def _open_neighbours(self, references: ReferenceSet, candidates: ReferenceSet) -> None:
        """What finds neighbours, and what is kept of them."""
        s = self.strategies
        if references.folder is not None:
            folder = references.folder / "warm"
            self._store = open_store(references, self.model, folder, self.format, self.store_bytes)
        self._rows = {q.id: i for i, q in enumerate(candidates.questions)}
        with _blamed("retriever", s.retriever, "fit"):
            self._index = candidates.index(s.retriever)
            if not isinstance(self._index, Index):
                raise PluginError(
                    f"Expected retriever {s.retriever.name!r} to give an Index, got {type(self._index).__name__}; "
                    "return one from fit."
                )
        with _blamed("kernel", s.kernel, "prepare"):
            self.strategies = replace(s, kernel=s.kernel.prepare(candidates.vectors))

    @property
    def needs_label(self) -> bool:
        """Whether its answers are an upper bound."""
        return self.strategies.needs_label

    @property
    def training(self) -> ReferenceTraining:
        """Its references, for selectors that learn from them: those that the optimizer did not learn from."""
        return ReferenceTraining(
            self.model,
            self.references,
            self.strategies,
            self.format,
            self.settings,
            self.held_out,
            self.batch_size,
            self._training_batch,
            self.strategies.optimizer.references_needed,
            self._spent,
            self._learned_from,
        )

    @property
    def once(self) -> float:
        """FLOPs that were spent whatever is asked: on references' prompts, what is kept of each, and learning."""
        if self.references is None or not self.strategies.needs_references:
            return 0.0
        return self.kept + sum(self._spent)

    @property
    def kept(self) -> float:
        """FLOPs of what the set keeps of each reference: they are spent once, whoever asks for it."""
        if self.references is None or not self.strategies.needs_references:
            return 0.0
        return self._references_work + sum(self._learned_from.values())

    @cached_property
    def _references_work(self) -> float:
        assert self.references is not None
        asked = (self.model.encode(question, self.format) for question in self.references.questions)
        return sum(self.model.plain_work(prompt).flops for prompt in asked)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions. Labels are looked at only by upper bounds that ask for them."""
        answers: list[Answer] = []
        while len(answers) < len(questions):
            with self.model.lock:  # what is kept of references is shared, too
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
        shown = self.candidates if self.strategies.shows_neighbours else None
        ledgers = [
            replace(
                ledger,
                prefill=ledger.prefill.lasting(clock.seconds["prefill"]),
                answer=spent.lasting(clock.seconds["answer"]),
            )
            for ledger, spent in zip(run.ledgers, tails.spent, strict=True)
        ]
        answers = [run.answer(b, scores[b, : len(base[b])], base[b], ledgers[b], shown) for b in range(len(questions))]
        return [replace(answer, once=self.once, kept=self.kept) for answer in answers]

    def remix(
        self, states: Sequence[State], texts: Sequence[str], questions: Sequence[Question] | None = None
    ) -> Remixed:
        """Re-mix prefilled prompts whose neighbours are those of ``texts``; ``questions`` if labels may be known."""
        with self.model.lock:
            return self._remix(states, texts, questions)

    def _remix(self, states: Sequence[State], texts: Sequence[str], questions: Sequence[Question] | None) -> Remixed:
        batch = self._batch(states, texts, questions, labeled=self.needs_label)
        clock, selector, optimizer = batch.clock, self.strategies.selector, self.strategies.optimizer
        with clock("attribution"), _blamed("selector", selector, "select"):
            choosing = batch.problem(labeled=selector.needs_label)
            selection = selector.select(choosing)
            _check_selection(selection, choosing, selector)
        with clock("optimisation"), _blamed("optimizer", optimizer, "optimize"):
            problem = batch.problem(labeled=optimizer.needs_label, selection=selection)
            weights = _weights_of(optimizer.optimize(problem), batch.own, selection, optimizer)
        pathway = Pathway(weights, batch.own, self.model.layers, self.settings.scope, self._top_k)
        embedded = [self.embedder.flops(t) if self.strategies.needs_neighbours else 0.0 for t in texts]
        return Remixed(states, pathway, selection, batch.neighbours, batch.ledgers(embedded))

    def problem(self, questions: Sequence[Question]) -> Problem:
        """What a selector looks at, without labels."""
        with self.model.lock:
            states = self.model.prefill([self.model.encode(q, self.format) for q in questions])
            problem = self._batch(states, [description(q) for q in questions], questions, labeled=False).problem()
            return replace(problem, choices=tuple(q.choices for q in questions))

    def labeled(self, questions: Sequence[Question]) -> SampleBatch:
        """Questions with their labels, each without itself among its neighbours: to look into."""
        return self._labeled(questions, frozenset())

    def _training_batch(self, questions: Sequence[Question]) -> SampleBatch:
        """Labeled references to learn from; none that is held out is their neighbour, either."""
        return self._labeled(questions, self.held_out)

    def _labeled(self, questions: Sequence[Question], unseen: frozenset[str]) -> SampleBatch:
        states = self.model.prefill([self.model.encode(q, self.format) for q in questions], keep=False)
        return self._batch(states, [description(q) for q in questions], questions, labeled=True, unseen=unseen)

    def _batch(
        self,
        states: Sequence[State],
        texts: Sequence[str],
        questions: Sequence[Question] | None,
        *,
        labeled: bool,
        unseen: frozenset[str] = frozenset(),
    ) -> SampleBatch:
        """The samples with their neighbours; with ``questions`` to know them by, whose labels may be known or not."""
        clock = Clock(len(states))
        with clock("embedding"):
            vectors = self.embedder.encode(list(texts)) if self._index is not None else None
        with clock("retrieval"):
            neighbours, excluded = self._retrieve(vectors, texts, questions, unseen)
        return SampleBatch(
            self.model,
            self.format,
            self.settings,
            self.candidates,
            states,
            neighbours,
            excluded,
            questions if labeled else None,
            self._store,
            clock,
            self._learned_from,
        )

    @property
    def _top_k(self) -> int | None:
        return self.model.sites[0].top_k if self.settings.mix == "top-k" else None

    def _retrieve(
        self,
        vectors: NDArray[np.float32] | None,
        texts: Sequence[str],
        questions: Sequence[Question] | None,
        unseen: frozenset[str],
    ) -> tuple[Neighbours, tuple[frozenset[int], ...] | None]:
        """Neighbours with kernel weights, and the reference rows that a sample must not see in pathway space either."""
        if self.candidates is None or self._index is None or vectors is None:
            nothing = torch.zeros(len(texts), 0)
            return Neighbours(nothing.long(), nothing, nothing), ()
        ids = self._rows
        away = {ids[id_] for id_ in unseen if id_ in ids}
        itself = [away | ({ids[q.id]} if q.id in ids else set()) for q in questions or ()] or [away for _ in texts]
        with _blamed("retriever", self.strategies.retriever, "search"):
            keys = [draw_key(self.settings.seed, text) for text in texts]
            hits = self._index.search(vectors, exclude=itself, max_similarity=self.settings.max_similarity, keys=keys)
            _check_hits(hits, len(vectors), len(self.candidates), self.strategies.retriever)
        weights, kernel = np.zeros(hits.index.shape), self.strategies.kernel
        embeddings = self.candidates.vectors
        for b, row in enumerate(hits.index):
            near = row[row >= 0]
            if len(near):
                with _blamed("kernel", kernel, "__call__"):
                    values = kernel(vectors[b : b + 1], embeddings[near])
                    _check_values(values, len(near), kernel)
                values = values[0].clip(0)
                weights[b, : len(near)] = values / values.sum() if values.sum() > 0 else 0
        excluded = None  # where nobody looks: among a million it would take longer than the rest
        if self.strategies.optimizer.searches_pathways:
            similar = vectors @ embeddings.T > self.settings.max_similarity
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

    def answer(self, b: int, scores: Tensor, base: Tensor, ledger: Ledger, candidates: ReferenceSet | None) -> Answer:
        """Sample b's answer and how it came about; its neighbours are rows of ``candidates``; None leaves them out."""
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
            base_flops=ledger.prefill.flops,
            layers=tuple(pathway.layers[i] for i in moved),
            experts={layer: tuple(ids) for layer, ids in experts.items()},
            neighbours=tuple(
                (candidates.questions[int(n.index[b, k])].id, n.similarity[b, k].item(), n.weight[b, k].item())
                for k in near
                if candidates is not None
            ),
            layer_scores=() if self.selection.scores is None else tuple(self.selection.scores[b].tolist()),
            strength=None if self.selection.strength is None else self.selection.strength[b].item(),
        )


@contextmanager
def _blamed(role: str, strategy: Any, method: str) -> Iterator[None]:
    """An unforeseen error in a strategy is that strategy's, by name, method, file and line."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:
        if should_reduce_batch_size(error):  # no fault of the strategy
            raise
        raise PluginError(
            f"Expected {role} {strategy.name!r} to work, got {type(error).__name__} in {method} at "
            f"{place_of(error, type(strategy))}: {error}; correct it, or choose another {role}."
        ) from error


def _weights_of(returned: Any, own: Tensor, selection: Selection, optimizer: PathwayOptimizer) -> Tensor:
    """What an optimizer returned, if it is a pathway that it may return."""
    if not isinstance(returned, Tensor):
        raise PluginError(
            f"Expected optimizer {optimizer.name!r} to return weights (B, L, E) = {tuple(own.shape)}, got "
            f"{type(returned).__name__}; return a tensor."
        )
    weights = returned.detach()
    _check_weights(weights, own, selection, optimizer)
    return weights


def _check_weights(weights: Tensor, own: Tensor, selection: Selection, optimizer: PathwayOptimizer) -> None:
    shape = tuple(own.shape)
    if tuple(weights.shape) != shape or not weights.isfinite().all() or (weights < 0).any():
        got = f"{tuple(weights.shape)} from {weights.min().item():g} to {weights.max().item():g}"
        wanted = f"finite weights >= 0 of shape (B, L, E) = {shape}"
    elif (drift := (mass(weights) - mass(own)).abs().max().item()) > MASS_TOLERANCE:
        wanted, got = "weights that keep the mass of each layer", f"a sum that differs by {drift:g}"
    elif ((weights != own) & ~selection.layers.unsqueeze(-1)).any():
        wanted, got = "the model's own weights in layers that are not selected", "others"
    elif ((weights > 0) & ~(selection.mask | (own > 0))).any():
        wanted, got = "no weight on experts that are neither selected nor the model's own", "some"
    else:
        return
    raise PluginError(
        f"Expected optimizer {optimizer.name!r} to return {wanted}, got {got}; correct it, or choose another optimizer."
    )


def _check_hits(hits: Any, samples: int, references: int, retriever: Any) -> None:
    arrays = [getattr(hits, name, None) for name in ("index", "similarity")]
    shapes = [getattr(array, "shape", None) for array in arrays]
    kinds = [array.dtype.kind if isinstance(array, np.ndarray) else "no array" for array in arrays]
    if kinds[0] not in "iu" or kinds[1] not in "fiu":
        wanted, got = "NumPy arrays of whole numbers (index) and real ones (similarity)", " and ".join(kinds)
    elif shapes[0] is None or shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != samples:
        wanted, got = f"hits with index and similarity of shape (B, K), B = {samples}", f"{shapes[0]} and {shapes[1]}"
    elif ((hits.index < -1) | (hits.index >= references)).any():
        wanted, got = f"rows from 0 to {references - 1}, or -1", f"{hits.index.min()} to {hits.index.max()}"
    elif not np.isfinite(hits.similarity[hits.index >= 0]).all():
        wanted, got = "finite similarities", "NaN or infinity among them"
    else:
        return
    raise PluginError(
        f"Expected retriever {retriever.name!r} to return {wanted}, got {got}; correct it, or choose another retriever."
    )


def _check_values(values: Any, count: int, kernel: Any) -> None:
    real = isinstance(values, np.ndarray) and values.dtype.kind in "fiu"
    if not (real and values.shape == (1, count) and np.isfinite(values).all()):
        got = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise PluginError(
            f"Expected kernel {kernel.name!r} to return finite real values of shape (1, {count}), got {got}; "
            "correct it, or choose another kernel."
        )


def _check_selection(selection: Selection, problem: Problem, selector: LayerSelector) -> None:
    if not isinstance(selection, Selection):
        raise SettingError(
            f"Expected selector {selector.name!r} to return a Selection, got {type(selection).__name__}."
        )
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
