"""Answers pieces of a comparison: a batch of one data set by one arm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from ...analysis.matching_controls import controls_of, lacking
from ...answerers import Answerer, AnswererStrategy, AnsweringContext
from ...answerers.along_rule import AlongRule
from ...errors import C3POError, DataError, PluginError, SettingError, place_of
from ...optimizers.base import one_for_all_of
from ...records.answer import AnswerCost, AnswerRecord, LayerChange, Neighbour
from ...records.setting import Setting
from ...references.reference_set import ReferenceSet
from ...rules.base import NamedRule
from ...rules.planned import check_planned
from ...storage.identity import digest
from ...storage.json_values import Values
from ...tasks.formats import format_key
from ...types import NO_CHOICE, Answer, Question, Score
from ..arms import ROLES
from ..executor import Piece
from ..study_config import Dataset, Spec
from ..worker import UNKNOWN, Worker
from .audited import audited
from .comparison_config import ComparisonConfig

SHOWN = 16  # neighbours that a record names, nearest first


class ComparisonWorker(Worker[ComparisonConfig]):
    """Prepares references, and each arm's answerer, when its first piece comes; they are kept while data sets with the
    same references are asked.
    """

    def rows(self, piece: Piece) -> tuple[AnswerRecord, ...]:
        return self.recorded(piece, self.answers(piece))

    def used(self) -> Iterator[tuple[str, Any]]:
        for arm in self.config.arms.values():
            for role, spec in arm.specs.items():
                yield role, self.registry.create(role, spec)

    def check(self) -> None:
        """Refuse names and parameters that do not exist, and a run without a base.

        Raises:
            UnknownNameError: a strategy that does not exist.
            SettingError: a parameter that does not, no base, or an arm that cannot write what a data set asks for.
            DataError: there is no audit where the configuration names one.
        """
        super().check()
        _ = self.config.baseline
        written = [d.name for d in self.config.datasets if d.score == "generated"]
        for name, arm in self.config.arms.items():
            if written and not self.strategy(name).writes:
                raise SettingError(
                    f"Arm {name}: expected an answerer that answers by what the model writes, such as remix, as "
                    f"{written[0]} has score: generated, got {arm.name_of('answerer')}; leave the arm out, or take "
                    "score: likelihood."
                )
        audited(self.config)

    def fits(self, layers: tuple[int, ...], experts: int | None, top_k: int | None) -> None:
        for name, arm in self.config.arms.items():
            strategies, strategy = self.registry.strategies(arm.specs), self.strategy(name)
            try:
                for asked in self.data.values():
                    strategy.fits(strategies, layers, experts or UNKNOWN, asked.known)
                for rule in _rules(strategy):
                    if experts and top_k:
                        check_planned(rule, layers, experts, top_k)
            except SettingError as error:
                raise SettingError(f"Arm {name}: {error}") from error
        self._check_kinds()

    def _check_kinds(self) -> None:
        """Refuse kinds of question as the unit where there is one at most."""
        kinds = {(name, question.subject) for name, part in self.data.items() for question in part.questions}
        if len(kinds) < 2 and any(each.unit == "kind" for each in self.config.compared):
            raise SettingError(
                f"Expected questions of several kinds, which unit: kind resamples, got {len(kinds)}; give questions a "
                "subject, or leave the unit out."
            )

    def claim(self, out: Path | str) -> Values:
        inputs = super().claim(out)
        audited(self.config, inputs)
        return inputs

    def lacking_controls(self) -> dict[str, list[str]]:
        """Of each arm that is to get its controls, those that would decide on it and that it lacks all the same."""
        settings = {name: self.setting(name) for name in self.config.arms}
        lacks = {name: lacking(name, controls_of(name, settings), settings) for name in self.config.controlled}
        return {name: words for name, words in lacks.items() if words}

    def answers(self, piece: Piece) -> list[Answer]:
        """What the piece's arm answers to its questions."""
        answerer, _, _ = self._answerer(piece)
        return _answered(piece.arm, answerer, self.batch(piece), self._dataset(piece.dataset).score)

    def recorded(self, piece: Piece, answers: Sequence[Answer]) -> tuple[AnswerRecord, ...]:
        """The rows of a piece, from answers that it got already."""
        answerer, _, _ = self._answerer(piece)
        return tuple(
            self._record(piece, question, answer, answerer.needs_label)
            for question, answer in zip(self.batch(piece), answers, strict=True)
        )

    def strategy(self, arm: str) -> AnswererStrategy:
        """What an arm's answerer is made by."""
        return self._made(self.config.arms[arm].answerer)

    def _made(self, spec: Spec) -> AnswererStrategy:
        made: AnswererStrategy = self.registry.create("answerer", spec)
        return made

    @property
    def files(self) -> Sequence[str]:
        return [file for arm in self.config.arms for file in self.strategy(arm).files]

    def _answerer(self, piece: Piece) -> tuple[Answerer, Setting, AnsweringContext]:
        """The piece's answerer, what identifies it in results, and what it was made from."""
        key = (self._taught(piece.dataset), piece.arm, piece.draw, self._dataset(piece.dataset).score)
        if any(taught != key[0] for taught, *_ in self._ready):
            self._ready.clear()  # those of two reference sets might not fit
        if key not in self._ready:
            bench, strategy = self.bench(piece), self.strategy(piece.arm)
            with blamed(piece.arm, strategy):
                answerer = self._made(self.at(self.config.arms[piece.arm].answerer)).prepare(bench)
            setting, arm = self.setting(piece.arm), self.config.arms[piece.arm]
            if setting.head is not None:
                setting = setting.model_copy(update={"head": self.model.head_for(arm.head)})
            self._ready[key] = answerer, setting, bench
        return self._ready[key]

    @cached_property
    def _ready(self) -> dict[tuple[str, str, int, Score], tuple[Answerer, Setting, AnsweringContext]]:
        return {}

    def _dataset(self, name: str) -> Dataset:
        """What the configuration says of a data set."""
        (found,) = (d for d in self.config.datasets if d.name == name)
        return found

    def _taught(self, dataset: str) -> str:
        """All of a data set that its answerers are made from: data sets of one pool have them in common."""
        if dataset not in self._teaching:
            asked, format = self.data[dataset], format_key(self.config.format_of(dataset))
            named = list(self._dataset(dataset).references)
            among = sorted({q.id for q in asked.questions} & {q.id for q in asked.references})
            self._teaching[dataset] = digest([[q.row() for q in asked.references], named, among, format])
        return self._teaching[dataset]

    @cached_property
    def _teaching(self) -> dict[str, str]:
        return {}

    def bench(self, piece: Piece) -> AnsweringContext:
        """What a piece's answerer is made from."""
        arm, asked = self.config.arms[piece.arm], self.data[piece.dataset]
        return AnsweringContext(
            self.model,
            self.registry.strategies(arm.specs),
            self.embedder,
            self.config.format_of(piece.dataset),
            arm.remixing.model_copy(update={"seed": arm.seed + piece.draw}),
            self.config.batch_size,
            frozenset(q.id for q in asked.questions),
            lambda: self._reference_set(piece.dataset),
            self._dataset(piece.dataset).score,
        )

    def _reference_set(self, dataset: str) -> ReferenceSet | None:
        taught = self._taught(dataset)
        if taught not in self._built:
            self._built.clear()
            self._built[taught] = self.reference_set(dataset) if self.data[dataset].references else None
        return self._built[taught]

    @cached_property
    def _built(self) -> dict[str, ReferenceSet | None]:
        return {}

    def setting(self, name: str) -> Setting:
        """What identifies an arm in results; but for its head, in whose place a model may take another."""
        arm, strategy = self.config.arms[name], self.strategy(name)
        strategies = self.registry.strategies(arm.specs)
        used = strategy.used(strategies)
        playing = {role: getattr(strategies, role) for role in ROLES if role in used}
        if arm.name_of("answerer") != "remix":
            playing["answerer"] = strategy
        settings = arm.apart_from(self.config)
        steps = {"one_for_all": one_for_all_of(strategies.optimizer)} if "optimizer" in used else {}
        varies = [words for made in playing.values() for words in _varies(made)]
        varies += ["labels drawn at random"] * ("labels" in used and arm.labels == "shuffled")
        return Setting.model_validate(
            {role: self.registry.describe(made) for role, made in playing.items()}
            | {key: value for key, value in settings.items() if key in used}
            | {"control_of": arm.control_of, "varies": varies, "changes": strategy.changes(strategies)}
            | steps
            | {"calibrates": strategy.calibrates, "positive": strategy.positive}
        )

    def _plain_flops(self, dataset: str) -> float:
        """What a plain answer takes, on average over the data set's questions: what one-time costs are told in."""
        if dataset not in self._plain:
            format = self.config.format_of(dataset)
            asked = (self.model.encode(q, format) for q in self.data[dataset].questions)
            self._plain[dataset] = fmean(self.model.plain_work(prompt).flops for prompt in asked)
        return self._plain[dataset]

    @cached_property
    def _plain(self) -> dict[str, float]:
        return {}

    def _record(self, piece: Piece, question: Question, answer: Answer, needs_label: bool) -> AnswerRecord:
        """One row, every figure rounded to what it is good for."""
        _, setting, bench = self._answerer(piece)
        flops = asdict(answer.cost) | {"total": answer.cost.total}
        return AnswerRecord(
            id=question.id,
            dataset=piece.dataset,
            split=question.split,
            subject=question.subject,
            arm=piece.arm,
            setting=setting,
            seed=self.config.seed + piece.draw,
            answer=_right(question),
            choice=answer.choice,
            correct=answer.choice == question.answer,
            base_choice=answer.base_choice,
            base_correct=None if answer.base_choice is None else answer.base_choice == question.answer,
            scores=_rounded(answer.scores),
            base_scores=_rounded(answer.base_scores),
            layers=answer.layers,
            experts=answer.experts,
            raised=_raised(answer),
            strength=None if answer.strength is None else round(answer.strength, 5),
            layer_scores=dict(zip(self.model.layers, _rounded(answer.layer_scores), strict=False)),
            pathway=_changes(answer) if self.config.pathways else {},
            neighbours=tuple(
                Neighbour(id=i, similarity=round(s, 4), weight=round(w, 4)) for i, s, w in answer.neighbours[:SHOWN]
            ),
            neighbours_used=sum(w > 0 for _, _, w in answer.neighbours),
            moved=_moved(answer),
            once=round(answer.once / self._plain_flops(piece.dataset), 2),
            cost=AnswerCost(**{k: round(v / answer.base_flops, 4) for k, v in flops.items()}),
            flops={k: round(v) for k, v in flops.items()},
            seconds=round(answer.seconds, 4),
            parameters=answer.parameters,
            needs_label=needs_label,
            labels=bench.labels_used,
            chosen_by="likelihood" if bench.score == "likelihood" else bench.format.writes,
            generated=answer.generated,
        )


def _rules(answerer: object) -> Iterator[NamedRule]:
    """What an answerer, or the one that it corrects, runs along."""
    if isinstance(answerer, AlongRule):
        yield answerer.rule
    elif of := getattr(answerer, "of", None):
        yield from _rules(of)


def _varies(strategy: Any) -> Iterator[str]:
    """What a strategy leaves to chance, and those that it is made of."""
    if isinstance(strategy, tuple | list):
        for part in strategy:
            yield from _varies(part)
    elif hasattr(strategy, "name") and is_dataclass(strategy):
        if words := getattr(strategy, "varies", ""):
            yield words
        for field in fields(strategy):
            if field.repr:  # the rest is learned
                yield from _varies(getattr(strategy, field.name))


def _raised(answer: Answer) -> dict[int, tuple[int, ...]]:
    """Those of its experts whose weight rose; that of the others fell."""
    p = answer.pathway
    if p is None:
        return {}
    rose = {layer: (p.weights[i] > p.own[i]).nonzero().squeeze(1).tolist() for i, layer in enumerate(p.layers)}
    return {layer: tuple(rose[layer]) for layer in answer.layers}


def _moved(answer: Answer) -> float:
    """The share of its layers' weight that lies on other experts than before, over the layers that were re-mixed."""
    p = answer.pathway
    if p is None or not answer.layers:
        return 0.0
    rows = [p.layers.index(layer) for layer in answer.layers]
    share = (p.weights[rows] - p.own[rows]).abs().sum(-1) / (2 * p.own[rows].sum(-1))
    return round(float(share.mean()), 5)


def _changes(answer: Answer) -> dict[int, LayerChange]:
    """Own and new weights of each layer that was re-mixed."""
    p = answer.pathway
    if p is None:
        return {}
    rows = {layer: i for i, layer in enumerate(p.layers)}
    return {
        layer: LayerChange(own=_sparse(p.own[rows[layer]].tolist()), new=_sparse(p.weights[rows[layer]].tolist()))
        for layer in answer.layers
    }


def _right(question: Question) -> int:
    if question.answer is None:
        raise DataError(f"Expected labeled questions, got {question.id!r} without an answer; give it, or leave it out.")
    return question.answer


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(v, 5) for v in values)


def _sparse(weights: list[float]) -> dict[int, float]:
    return {expert: round(w, 4) for expert, w in enumerate(weights) if w > 5e-5}


def _answered(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> list[Answer]:
    """Answers that records can be made of.

    Raises:
        PluginError: naming the arm, and the question that a plugin failed at.
    """
    try:
        return _checked(arm, answerer, asked, score)
    except PluginError as error:
        raise PluginError(f"Arm {arm}, {_failing(arm, answerer, asked, score)}: {error}") from error


def _failing(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> str:
    """The first question that fails by itself; else all that were asked together."""
    for question in asked:
        try:
            _checked(arm, answerer, [question], score)
        except C3POError:
            return f"question {question.id!r}"
    return f"{len(asked)} questions together, from {asked[0].id!r} on"


def _checked(arm: str, answerer: Answerer, asked: Sequence[Question], score: Score) -> list[Answer]:
    with blamed(arm, answerer):
        answers = answerer.answer(asked)
    check_answers(arm, asked, answers, score)
    return answers


@contextmanager
def blamed(arm: str, made: object) -> Iterator[None]:
    """An unforeseen error in an arm's answerer is that arm's, by name, file and line."""
    try:
        yield
    except C3POError:
        raise
    except Exception as error:
        raise PluginError(
            f"Expected the answerer of arm {arm!r} to work, got {type(error).__name__} at "
            f"{place_of(error, type(made))}: {error}; correct it, or leave the arm out."
        ) from error


def check_answers(arm: str, asked: Sequence[Question], answers: Sequence[Answer], score: Score = "likelihood") -> None:
    """Refuse answers that records cannot be made of.

    Raises:
        PluginError: with the arm's name, and what is wrong.
    """
    if len(answers) != len(asked):
        wanted, got = f"{len(asked)} answers, one for each question", str(len(answers))
    else:
        found = (_wrong(question, answer, score) for question, answer in zip(asked, answers, strict=True))
        wanted, got = next((wrong for wrong in found if wrong is not None), ("", ""))
    if wanted:
        raise PluginError(f"Expected the answerer of arm {arm!r} to give {wanted}, got {got}; correct it.")


def _wrong(question: Question, answer: Answer, score: Score) -> tuple[str, str] | None:
    """What was wanted of an answer, and what came, if it will not do."""
    choices = len(question.choices)
    written = score == "generated"
    if written and answer.generated is None:
        return f"what it wrote for {question.id!r}, as the data set has score: generated", "a choice without it"
    if answer.choice not in range(NO_CHOICE if written else 0, choices):
        return f"a choice from 0 to {choices - 1} for {question.id!r}", str(answer.choice)
    if len(answer.scores) != choices or not all(map(math.isfinite, answer.scores)):
        return f"{choices} finite scores for {question.id!r}", str(answer.scores)
    if len(answer.base_scores) not in (0, choices):
        return f"{choices} base scores for {question.id!r}, or none", str(len(answer.base_scores))
    if not answer.base_flops > 0:
        return f"base_flops above zero for {question.id!r}", str(answer.base_flops)
    return None
