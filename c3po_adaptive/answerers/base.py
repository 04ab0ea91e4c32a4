"""The answerer role: questions in, answers with scores and costs out."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .._printed import in_brief
from ..checks import Checked
from ..errors import SettingError
from ..ledger import Ledger
from ..settings import RemixSettings
from ..tasks.formats import description
from ..types import Answer, Changes, Neighbours, Prompt, Question, Score, draw_key

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ..models.routed import RoutedModel
    from ..problem import ReferenceArtifact
    from ..references.embedding import Embedder
    from ..references.reference_set import ReferenceSet
    from ..remixing.neighbourhood import Neighbourhood
    from ..remixing.remixer import Remixer
    from ..remixing.sample_batch import Teach
    from ..remixing.strategies import Strategies
    from ..routing.whole_prompts import PromptPrefix, WholePrompts
    from ..tasks.formats import Format

FEWEST = 10
"""References that it makes sense to learn from."""
BY_TEXTS = {"retriever": "faiss-knn", "kernel": "gaussian"}
"""Of the roles that may be taught by re-mixing, one each that is not."""


class Answerer(Protocol):
    """Whatever answers questions: the only thing that studies know of what they compare."""

    @property
    def needs_label(self) -> bool:
        """Whether it looks at the questions' labels: then its answers are an upper bound."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question, in order.

        What an answer does not say (a pathway, layers, neighbours) is left at its default; its ``ledger`` holds what it
        took, and ``base_flops`` what the model's plain answer takes, where the prompt is not the plain one.
        """


@dataclass(frozen=True, eq=False)
class AnsweringContext:
    """What an answerer may use: the model, an arm's strategies and settings, one data set's references.

    Attributes:
        model: the frozen model; whoever changes it, changes it back.
        strategies: the arm's; an answerer may use some of them, such as the retriever to find examples.
        embedder: of retrieval.
        format: how questions are put.
        settings: the arm's.
        batch_size: questions that come together.
        held_out: ids of the questions that are asked, and of references that are the same by another id: nothing is
            trained on these (``references_for``).
        build_references: gives the labeled references, run along the model's own pathway; None if there are none.
        score: what an answer is.
    """

    model: RoutedModel
    strategies: Strategies
    embedder: Embedder
    format: Format
    settings: RemixSettings
    batch_size: int
    held_out: frozenset[str]
    build_references: Callable[[], ReferenceSet | None]
    score: Score = "likelihood"
    __repr__ = in_brief

    @cached_property
    def references(self) -> ReferenceSet | None:
        """The references, built when they are first asked for."""
        return self.build_references()

    def references_for(self, name: str) -> ReferenceSet:
        """The references that an answerer of that name may be trained on: those that are not held out.

        Raises:
            SettingError: there are no references.
            DataError: they are of another model, format or embedder.
        """
        from torch import long, tensor

        whole = self.all_references(name)
        rows = [row for row, q in enumerate(whole.questions) if q.id not in self.held_out]
        if len(rows) == len(whole):
            return whole
        return replace(whole.subset(tensor(rows, dtype=long)), folder=whole.folder)

    def all_references(self, name: str) -> ReferenceSet:
        """All references, for who looks for neighbours among them; errors as of ``references_for``."""
        if self.references is None:
            raise SettingError(f"{name} expected references, got none; name some in the data set.")
        self.references.check(self.model, self.format, self.embedder)
        return self.references

    def holding_out(self, questions: Sequence[Question]) -> AnsweringContext:
        """The same where nothing is trained on these questions, either, nor on references that are the same."""
        from ..tasks.same_questions import asked_of

        known = () if self.references is None else self.references.questions
        return replace(self, held_out=self.held_out | asked_of(known, questions))

    @property
    def labels_used(self) -> int:
        """How many labeled references had a part in answers: all, where neighbours were looked for; otherwise those
        that are not held out; 0 where nothing asked for references."""
        built: ReferenceSet | None = vars(self).get("references")
        left_out = () if "candidates" in vars(self) else self.held_out
        return sum(q.id not in left_out for q in built.questions) if built else 0

    def learned_once(
        self,
        strategy: AnswererStrategy,
        learn: Callable[[], Mapping[str, Tensor]],
        *code: Any,
        packages: Sequence[str] = (),
    ) -> Mapping[str, Tensor]:
        """What a strategy learns from the references, or learned before: stored beside them.

        Told apart are its parameters and its code, the settings and strategies that it uses, the model, the format, the
        references, and which of them are asked.

        Args:
            strategy: that learns.
            learn: finds it, by name, if nothing is stored.
            code: functions and classes that decide what is found beside the strategy's own.
            packages: whose versions do.

        Raises:
            SettingError: there are no references.
            DataError: they are of another model, format or embedder; or what is stored is cut short or altered.
        """
        from ..references.learned import deciding, learned_once
        from ..storage.kept import NoSource

        references, used = self.all_references(strategy.name), strategy.used(self.strategies)
        parts = [strategy, *(part for role, part in vars(self.strategies).items() if role in used)]
        settings = self.settings.model_dump(include={*used})
        asked = sorted(self.held_out & {q.id for q in references.questions})
        try:
            known = deciding(references, parts, code, self.model, self.format, settings, asked)
        except NoSource:
            return learn()
        return learned_once(references, [*known, *map(version, packages)], learn)

    @cached_property
    def candidates(self) -> ReferenceSet | None:
        """The references that may be neighbours, as the settings say; None if there are none."""
        return None if self.references is None else self.references.candidates(self.settings)

    def nearest(self, questions: Sequence[Question]) -> list[list[tuple[Question, float]]]:
        """The neighbours of each question with their cosine similarity, nearest first, by the arm's retriever.

        Raises:
            SettingError: there are no references, or the retriever is taught by re-mixing.
        """
        from ..references.embedding import unit_vectors

        candidates, texts = self._near_by_texts("retriever"), [description(q) for q in questions]
        known = candidates.questions
        hits = candidates.index(self.strategies.retriever).search(
            unit_vectors(self.embedder, texts),
            exclude=[candidates.same.rows(q) for q in questions],
            max_similarity=self.settings.max_similarity,
            keys=[draw_key(self.settings.seed, text) for text in texts],
        )
        found = zip(hits.index.tolist(), hits.similarity.tolist(), strict=True)
        return [[(known[r], s) for r, s in zip(near, like, strict=True) if r >= 0] for near, like in found]

    def neighbours(self, questions: Sequence[Question]) -> Neighbours:
        """The neighbours of each question, rows of ``candidates``, with their weights by the arm's kernel.

        Raises:
            SettingError: there are no references, or the retriever or the kernel is taught by re-mixing.
        """
        from ..kernels.base import QuestionFeatures
        from ..references.embedding import unit_vectors

        texts = [description(q) for q in questions]
        seen = QuestionFeatures(unit_vectors(self.embedder, texts))
        return self._neighbourhood.of(seen, texts, questions, frozenset()).neighbours

    @cached_property
    def _neighbourhood(self) -> Neighbourhood:
        from ..kernels.base import QuestionFeatures, ReferenceFeatures
        from ..remixing.neighbourhood import Neighbourhood

        candidates = self._near_by_texts("retriever", "kernel")
        seen, known = QuestionFeatures(candidates.vectors), ReferenceFeatures(candidates.vectors)
        return Neighbourhood.open(candidates, seen, known, self.strategies, self.settings)

    def _near_by_texts(self, *roles: str) -> ReferenceSet:
        """The candidates, among which strategies of these roles find or weigh neighbours by texts alone."""
        for role in roles:
            if (strategy := getattr(self.strategies, role)).learns:
                raise SettingError(
                    f"Expected a {role} that goes by texts, got {strategy.name}, which is taught by re-mixing; choose "
                    f"{BY_TEXTS[role]}, say."
                )
        if self.candidates is None:
            raise SettingError("Expected references to find neighbours among, got none; name some in the data set.")
        return self.candidates

    def taught(self, artifact: ReferenceArtifact, prompts: Sequence[Prompt], answers: Sequence[int]) -> Tensor:
        """``[M, …]`` what M labeled prompts, one or more, teach by themselves; stored beside the references.

        Args:
            artifact: what is asked for.
            prompts: references, put in whatever way.
            answers: their right choices.
        """
        from ..progress import bar
        from ..references.artifacts import of_references

        return of_references(*self._labeled(artifact, prompts, answers), folder=self._kept_in, progress=bar)

    def teaching_flops(self, artifact: ReferenceArtifact, prompts: Sequence[Prompt], answers: Sequence[int]) -> float:
        """Mean FLOPs that what they teach takes, beyond a prompt's own; arguments as ``taught`` has them."""
        from ..references.artifacts import mean_flops

        return mean_flops(*self._labeled(artifact, prompts, answers), folder=self._kept_in)

    def _labeled(self, artifact: ReferenceArtifact, prompts: Sequence[Prompt], answers: Sequence[int]) -> Any:
        """Arguments of ``of_references``."""
        run = partial(self.model.prefill, scope=self.settings.scope)
        return artifact, self.model, prompts, answers, run, self.settings

    @property
    def _kept_in(self) -> Path | None:
        return None if self.references is None else self.references.artifacts_folder

    def remixer(self, put: Callable[[Question], Prompt] | None = None, teach: Teach | None = None) -> Remixer:
        """The arm's re-mixing, which is an ``Answerer``.

        Args:
            put: the tokens of a question that is asked, where they are not the format's alone.
            teach: what some candidates, by row, teach of an artifact, where that is not what each does by the format.

        Raises:
            SettingError: there are no references where there have to be some.
            DataError: they are of another model, format or embedder.
        """
        from ..remixing.remixer import Remixer
        from ..selectors.fixed import Fixed

        strategies = self.strategies
        if not strategies.re_mixes:  # so that a base fits models with fewer layers than a selector takes by default
            strategies = replace(strategies, selector=Fixed(n=0))
        if strategies.needs_neighbours:
            _ = self.candidates  # which ``labels_used`` counts
        return Remixer(
            model=self.model,
            references=self.references if strategies.needs_references else None,
            strategies=strategies,
            embedder=self.embedder,
            format=self.format,
            settings=self.settings,
            batch_size=self.batch_size,
            held_out=self.held_out,
            put=put,
            teach=teach,
            score=self.score,
        )

    def prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """The tokens of each question, put as the arm puts them."""
        return [self.model.encode(question, self.format) for question in questions]

    def with_shots(self, question: Question, shots: tuple[Question | str, ...]) -> Prompt | None:
        """The tokens of a question behind these shots, in place of the format's; None if the model cannot read all."""
        longer = replace(self.format, shots=shots)  # type: ignore[type-var]  # all formats are dataclasses
        prompt: Prompt = longer.prompt(question, self.model.tokenizer, sys.maxsize, self.model.processor)
        fits = len(prompt.ids) + max(map(len, prompt.options)) <= self.model.max_length
        return prompt if fits else None

    def generator(self, question: Question) -> Generator:
        """Draws for one question by the arm's seed: the same in any batch, and in any process."""
        from torch import Generator

        return Generator().manual_seed(draw_key(self.settings.seed, self.model.encode(question, self.format)))

    def plain(self, questions: Sequence[Question]) -> list[Answer]:
        """The model's plain answers: what others, and their costs, are compared with."""
        states = self.model.prefill(self.prompts(questions))
        return [
            Answer(
                choice=int(scores.argmax()),
                scores=tuple(scores.tolist()),
                ledger=Ledger(prefill=state.work),
                base_flops=state.work.flops,
                base_choice=int(scores.argmax()),
                base_scores=tuple(scores.tolist()),
            )
            for state, scores in zip(states, self.model.choice_scores(states), strict=True)
        ]

    def rescored(
        self,
        plain: Sequence[Answer],
        questions: Sequence[Question],
        whole: WholePrompts,
        opening: PromptPrefix | None = None,
    ) -> list[Answer]:
        """The plain answers with the scores, and at the price, of another run of their prompts."""
        from torch import no_grad

        from ..routing.modules import answering
        from ..routing.whole_prompts import NO_PREFIX

        found: list[Answer] = []
        prompts, opening = self.prompts(questions), opening or NO_PREFIX
        for i in range(0, len(prompts), self.batch_size):
            part, began = prompts[i : i + self.batch_size], time.perf_counter()
            with answering(whole.model), no_grad():
                scores = whole.scores(part, opening)
            seconds = (time.perf_counter() - began) / len(part)
            for prompt, row, base in zip(part, scores, plain[i : i + self.batch_size], strict=True):
                own = row[: len(prompt.options)]
                ledger = Ledger(prefill=whole.work(prompt, opening).lasting(seconds))
                found.append(replace(base, choice=int(own.argmax()), scores=tuple(own.tolist()), ledger=ledger))
        return found


class AnswererStrategy(Checked, ABC):
    """Makes an answerer; subclasses are frozen dataclasses with a ``name``.

    Attributes:
        likelihoods: whether its scores are log-likelihoods of the options, divided as the format says. Calibrations
            need that which go by an option's length, or compare with the model's other scores.
        writes: whether it answers by what the model generates, where that is asked for.
        calibrates: whether it corrects scores of another answerer, and changes nothing else.
        positive: whether it gains where labels can be learned from, or a planted fault undone: where it does not,
            nothing else need.
        files: that its answers depend on, by path: a run is not gone on with after one of them changed. Where it is
            computed elsewhere, those that a parameter names are sent, and the parameter says where they are.
    """

    name: ClassVar[str]
    likelihoods: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    calibrates: ClassVar[bool] = False
    positive: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def prepare(self, context: AnsweringContext) -> Answerer:
        """The answerer, ready for the context's questions; what takes long to learn is learned here.

        Raises:
            SettingError: the context lacks what it needs.
        """

    def fits(self, strategies: Strategies, layers: tuple[int, ...], experts: int, references: int) -> None:
        """Refuse what cannot be, before a run begins; most have nothing to refuse.

        Args:
            strategies: the arm's.
            layers: decoder layers that are MoE layers.
            experts: how many there are in each.
            references: how many references there are that are not asked themselves.

        Raises:
            SettingError: with what is lacking.
        """

    def learns(self, strategies: Strategies) -> bool:
        """Whether its answers to references are flattered, because it learned from them.

        What calibrates it then asks each reference of one that learned from others. Not so of an answerer that learns
        nothing, or that leaves a reference out where that is asked itself, as retrieval does.
        """
        return True

    def changes(self, strategies: Strategies) -> Changes:
        """What becomes of pathways."""
        return "each"

    def used(self, strategies: Strategies) -> tuple[str, ...]:
        """The roles among the arm's strategies, and the settings, that have a part in answers.

        They identify the arm in results; others, which it does not look at, do not.
        """
        return ()

    def check_count(self, known: int) -> None:
        """Refuse to fit or train on too few references, ten as a rule.

        Args:
            known: how many there are that are not asked themselves.

        Raises:
            SettingError: they are fewer.
        """
        if known < FEWEST:
            raise SettingError(
                f"{self.name} expected at least {FEWEST} references that are not asked themselves, got {known}; name "
                "more in the data set."
            )
