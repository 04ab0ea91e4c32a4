"""The one orchestrator: prefill → retrieve → weigh → select → optimize → answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .._printed import in_brief
from ..errors import DataError, PluginError, SettingError
from ..kernels.base import QuestionFeatures, ReferenceFeatures
from ..ledger import Ledger
from ..models.fingerprint import fingerprint
from ..models.provenance import own_pathway
from ..models.routed import RoutedModel
from ..optimizers._question_features import known, parts
from ..optimizers.base import PathwayOptimizer
from ..problem import Problem
from ..references.embedding import unit_vectors
from ..references.prefill_store import PrefillStore, open_store
from ..references.reference_set import WARM, ReferenceSet
from ..routing.states import State
from ..selectors.base import LayerSelector
from ..settings import DEFAULTS, RemixSettings
from ..tasks.formats import Format, as_format, description, format_key
from ..types import Answer, Neighbours, Pathway, Prompt, Question, Score, Selection
from .neighbourhood import Found, Neighbourhood
from .sample_batch import SampleBatch, Teach
from .spending import Clock
from .strategies import Strategies
from .strategy_results import blamed, check_selection, weights_of
from .training import ReferenceTraining
from .written_answers import as_written

if TYPE_CHECKING:
    from ..references.embedding import Embedder


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
        put: the tokens of a question that is asked, where they are not the format's alone.
        teach: see ``SampleBatch``.
        store_bytes: memory for states that are read from a prefill store.
        score: what an answer is; its pathway does not depend on it.
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
    put: Callable[[Question], Prompt] | None = None
    teach: Teach | None = None
    store_bytes: int = 2**30
    score: Score = "likelihood"
    candidates: ReferenceSet | None = field(default=None, init=False)
    _store: PrefillStore | None = field(default=None, init=False)
    _neighbourhood: Neighbourhood | None = field(default=None, init=False)
    _learned_from: dict[str, float] = field(default_factory=dict, init=False)
    _spent: list[float] = field(default_factory=list, init=False)
    _of: str | None = field(default=None, init=False)
    __repr__ = in_brief

    def __post_init__(self) -> None:
        self.settings = RemixSettings.of(self.settings)
        with self.model.answering():
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
        with blamed(role, strategy, "prepare"):
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
                f"Expected a reference set for {s.optimizer.name} with {s.selector.name}, got none; pass refset=…: "
                '"demo", a file or a folder of labeled questions, a built set, or a list of Question.'
            )
        self.references.check(self.model, self.format, self.embedder)
        self._of = fingerprint(self.model)
        if s.needs_neighbours:
            self.candidates = self.references.candidates(self.settings)
        self.references = self.references.labeled_by(self.settings)
        if self.candidates is not None:
            self._open_neighbours(self.references, self.candidates)

    def _open_neighbours(self, references: ReferenceSet, candidates: ReferenceSet) -> None:
        """What finds neighbours, and what is cached of them."""
        s = self.strategies
        if references.folder is not None and self.settings.scope != "all":  # it keeps no more than tails
            folder = references.folder / WARM
            store = open_store(references, self.model, folder, self.format, self.store_bytes)
            if store is not None:  # one for all arms: each would hold its own states
                key = (self.model, format_key(self.format), self.store_bytes, *store.files.values())
                store = references.stores.setdefault(key, store)
            self._store = store
        seen, known = QuestionFeatures(candidates.vectors), ReferenceFeatures(candidates.vectors)
        if s.kernel.learns or s.retriever.learns:
            known = replace(self.training, taken=s.references_needed, left=0).features(candidates.vectors)
            seen = QuestionFeatures(candidates.vectors, self.training.known_of_candidates())
        self._neighbourhood = near = Neighbourhood.open(candidates, seen, known, s, self.settings)
        self.strategies = replace(s, kernel=near.kernel, retriever=near.retriever)

    @property
    def needs_label(self) -> bool:
        """Whether its answers are an upper bound."""
        return self.strategies.needs_label or self.strategies.needs_truth

    @property
    def training(self) -> ReferenceTraining:
        """Its references, for selectors that learn from them: those that the optimizer did not learn from."""
        return ReferenceTraining(
            model=self.model,
            references=self.references,
            strategies=self.strategies,
            format=self.format,
            settings=self.settings,
            held_out=self.held_out,
            together=self.batch_size,
            ask=self._training_batch,
            taken=self.strategies.optimizer.references_needed,
            spent=self._spent,
            artifact_flops=self._learned_from,
        )

    @property
    def setup_flops(self) -> float:
        """FLOPs that were spent whatever is asked: on references' prompts, what is computed of each, and learning."""
        if self.references is None or not self.strategies.needs_references:
            return 0.0
        return self.reference_flops + sum(self._spent)

    @property
    def reference_flops(self) -> float:
        """FLOPs of what the set keeps of each reference: they are spent once, whoever asks for it."""
        if self.references is None or not self.strategies.needs_references:
            return 0.0
        return self._references_work + sum(self._learned_from.values())

    @cached_property
    def _references_work(self) -> float:
        asked = () if self.references is None else self.references.questions
        return sum(self.model.plain_work(self.model.encode(question, self.format)).flops for question in asked)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions. Labels are looked at only by upper bounds that ask for them."""
        answers: list[Answer] = []
        while len(answers) < len(questions):
            part = questions[len(answers) :][: self.batch_size]
            with self.model.answering():  # what is cached of references is shared, too
                try:
                    answers += self._answer(part)
                except RuntimeError as error:
                    self._halve(len(part), error)
        return answers

    def _halve(self, size: int, error: RuntimeError) -> None:
        """From now on half the batch, as ``size`` questions did not fit in memory; any other error is raised again."""
        if not should_reduce_batch_size(error):
            raise error
        if size == 1:
            raise SettingError(
                f"Expected memory for one question with its neighbours, got: {error} Take fewer neighbours, a "
                "smaller dtype, or another device."
            ) from error
        self.batch_size = size // 2
        warnings.warn(
            f"{size} questions together did not fit in memory; going on with {self.batch_size}.", stacklevel=3
        )
        clear_device_cache(garbage_collection=True)

    def _answer(self, questions: Sequence[Question]) -> list[Answer]:
        clock = Clock(len(questions))
        with clock("prefill"):
            states = self.prefill([self._prompt(q) for q in questions])
        run = self.remix(states, [description(q) for q in questions], questions)
        tails = self.model.tail_scores(states, run.pathway)
        with clock("answer"), torch.no_grad():
            scores = tails(run.pathway.router)
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
        answers = [
            replace(answer, setup_flops=self.setup_flops, reference_flops=self.reference_flops) for answer in answers
        ]
        return answers if self.score == "likelihood" else self._written(questions, answers, run)

    def _written(self, questions: Sequence[Question], answers: Sequence[Answer], run: Remixed) -> list[Answer]:
        """The answers that the model writes."""
        clock, prompts = Clock(len(questions)), [state.prompt for state in run.states]
        with clock("answer"):
            along = self.model.written(prompts, run.pathway)
        seconds = clock.seconds["answer"]
        along = [replace(one, work=one.work.lasting(seconds)) for one in along]
        each = zip(answers, questions, along, self.model.written(prompts), strict=True)
        return [as_written(answer, question, as_format(self.format), *both) for answer, question, *both in each]

    def _prompt(self, question: Question) -> Prompt:
        return self.model.encode(question, self.format) if self.put is None else self.put(question)

    def prefill(self, prompts: Sequence[Prompt], *, keep: bool = True) -> list[State]:
        """States of prompts, as pathways of this scope start from."""
        return self.model.prefill(prompts, scope=self.settings.scope, keep=keep)

    def remix(
        self, states: Sequence[State], texts: Sequence[str], questions: Sequence[Question] | None = None
    ) -> Remixed:
        """Re-mix prefilled prompts whose neighbours are those of ``texts``; ``questions`` if labels may be known."""
        with self.model.answering():
            return self._remix(states, texts, questions)

    def _remix(self, states: Sequence[State], texts: Sequence[str], questions: Sequence[Question] | None) -> Remixed:
        batch = self._batch(states, texts, questions, labeled=self.strategies.needs_label)
        clock, selector, optimizer = batch.clock, self.strategies.selector, self.strategies.optimizer
        with clock("attribution"), blamed("selector", selector, "select"):
            choosing = batch.problem(labeled=selector.needs_label, told=selector.needs_truth)
            selection = selector.select(choosing)
            check_selection(selection, choosing, selector)
        with clock("optimisation"), blamed("optimizer", optimizer, "optimize"):
            problem = batch.problem(labeled=optimizer.needs_label, told=optimizer.needs_truth, selection=selection)
            able = batch.changeable(selection.mask)
            weights = weights_of(optimizer.optimize(problem), batch.own, able, selection, optimizer)
        pathway = batch.pathway(weights)
        embedded = [self.embedder.flops(t) if self.strategies.needs_neighbours else 0.0 for t in texts]
        ledgers = batch.ledgers(embedded)
        return Remixed(states, pathway, selection, batch.neighbours, ledgers)

    def problem(self, questions: Sequence[Question]) -> Problem:
        """What a selector looks at, without labels."""
        prompts = [self.model.encode(q, self.format) for q in questions]
        problem = self.problem_of(prompts, [description(q) for q in questions], questions)
        return replace(problem, choices=tuple(q.choices for q in questions))

    def problem_of(
        self, prompts: Sequence[Prompt], texts: Sequence[str], questions: Sequence[Question] | None = None
    ) -> Problem:
        """The same of prompts whose neighbours are those of ``texts``; without ``questions`` it has no scores."""
        with self.model.answering():
            return self._batch(self.prefill(prompts), texts, questions, labeled=False).problem()

    def labeled(self, questions: Sequence[Question]) -> SampleBatch:
        """Questions with their labels, each without itself among its neighbours: to look into."""
        return self._labeled(questions, frozenset())

    def _training_batch(self, questions: Sequence[Question]) -> SampleBatch:
        """Labeled references to learn from; none that is held out is their neighbour, either."""
        return self._labeled(questions, self.held_out)

    def _labeled(self, questions: Sequence[Question], unseen: frozenset[str]) -> SampleBatch:
        states = self.prefill([self.model.encode(q, self.format) for q in questions], keep=False)
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
        """The samples with their neighbours; with ``questions`` to know them by, whose labels may be known or not.

        Raises:
            DataError: the model was changed since its references were read.
        """
        if self._of is not None and (now := fingerprint(self.model)) != self._of:
            raise DataError(
                f"Expected the model as it was when its references were read ({self._of}), got one that was changed "
                f"since ({now}): weights, dtype, adapters or routers. What is known of the references is not of it; "
                "make the Optimizer anew, from questions, or put the model back."
            )
        clock = Clock(len(states))
        near = self._neighbourhood
        if near is None:
            nothing = torch.zeros(len(texts), 0)
            found = Found(Neighbours(nothing.long(), nothing, nothing), ())
        else:
            with clock("embedding"):
                vectors = unit_vectors(self.embedder, list(texts))
            with clock("retrieval"):
                seen = QuestionFeatures(vectors, self._known_of(states) if near.learns else {})
                found = near.of(seen, texts, questions, unseen)
        return SampleBatch(
            model=self.model,
            format=self.format,
            settings=self.settings,
            candidates=self.candidates,
            states=states,
            neighbours=found.neighbours,
            excluded=found.excluded,
            questions=questions if labeled else None,
            store=self._store,
            clock=clock,
            learned_from=self._learned_from,
            teach=self.teach,
        )

    def _known_of(self, states: Sequence[State]) -> dict[str, NDArray[np.floating]]:
        scores = pad_sequence(self.model.choice_scores(states), True, -torch.inf)
        pathway = own_pathway(states, self.model.layers, self.settings.scope, self.settings.pathway)
        read = torch.stack([state.router_input for state in states])
        return parts(known(pathway.own, read, scores), read.shape[-1])


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
            pathway.layers[i]: (pathway.router[i] != pathway.own[i]).nonzero().squeeze(1).tolist() for i in moved
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
