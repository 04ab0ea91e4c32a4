"""Answers pieces of a comparison: a batch of one data set by one arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from ...analysis.matching_controls import controls_of, lacking
from ...answerers import Answerer, AnswererStrategy, AnsweringContext
from ...answerers.along_rule import AlongRule
from ...errors import SettingError
from ...optimizers.base import one_for_all_of
from ...records.answer import AnswerRecord
from ...records.setting import Setting
from ...references.reference_set import ReferenceSet
from ...rules.base import NamedRule
from ...rules.planned import check_planned
from ...storage.identity import digest
from ...storage.json_files import Values, checked
from ...tasks.formats import format_key
from ...types import Answer, Score
from ..arms import ROLES
from ..executor import Piece
from ..study_config import Dataset
from ..worker import UNKNOWN, Worker
from .answer_records import record_of
from .audited import audited
from .checked_answers import answered, blamed
from .comparison_config import ComparisonConfig

Made = tuple[Answerer, Setting, AnsweringContext]
"""Of an arm on a data set: what answers, what identifies it in results, and what it was made from."""


@dataclass(frozen=True)
class _Prepared:
    """What is cached while data sets are asked that answerers are made from alike.

    Attributes:
        taught: what these data sets have in common: see ``ComparisonWorker._taught``.
        references: gives the references, once.
        made: by arm, draw and what an answer is.
    """

    taught: str
    references: Callable[[], ReferenceSet | None]
    made: dict[tuple[str, int, Score], Made] = field(default_factory=dict)


class ComparisonWorker(Worker[ComparisonConfig]):
    """Prepares references, and each arm's answerer, when its first piece comes; they stay while data sets with the
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
        for name in self.config.arms:
            self.setting(name)  # which the report needs
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
        answerer, *_ = self._made(piece)
        return answered(piece.arm, answerer, self.batch(piece), self._dataset(piece.dataset).score)

    def recorded(self, piece: Piece, answers: Sequence[Answer]) -> tuple[AnswerRecord, ...]:
        """The rows of a piece, from answers that it got already."""
        answerer, setting, bench = self._made(piece)
        known: dict[str, Any] = {
            "dataset": piece.dataset,
            "arm": piece.arm,
            "setting": setting,
            "seed": self.config.seed + piece.draw,
            "needs_label": answerer.needs_label,
            "labels": bench.labels_used,
            "chosen_by": "likelihood" if bench.score == "likelihood" else bench.format.writes,
        }
        if not self.config.pathways:
            known["pathway"] = {}
        plain, layers = self._plain_flops(piece.dataset), self.model.layers
        return tuple(
            record_of(question, answer, layers, once=answer.setup_flops / plain, **known)
            for question, answer in zip(self.batch(piece), answers, strict=True)
        )

    def strategy(self, arm: str) -> AnswererStrategy:
        """What an arm's answerer is made by."""
        made: AnswererStrategy = self.registry.create("answerer", self.config.arms[arm].answerer)
        return made

    @property
    def files(self) -> Sequence[str]:
        return [file for arm in self.config.arms for file in self.strategy(arm).files]

    _prepared: _Prepared | None = None

    def _prepared_for(self, dataset: str) -> _Prepared:
        taught = self._taught[dataset]
        if self._prepared is None or self._prepared.taught != taught:  # those of two reference sets might not fit
            labeled = self.data[dataset].references
            self._prepared = _Prepared(taught, cache(lambda: self.reference_set(dataset) if labeled else None))
        return self._prepared

    def _made(self, piece: Piece) -> Made:
        """The piece's answerer, with what stands beside it."""
        made, key = self._prepared_for(piece.dataset).made, (piece.arm, piece.draw, self._dataset(piece.dataset).score)
        if key not in made:
            arm, bench, setting = self.config.arms[piece.arm], self.bench(piece), self.setting(piece.arm)
            with blamed(piece.arm, self.strategy(piece.arm)):
                answerer = self.registry.create("answerer", self.at(arm.answerer)).prepare(bench)
            if setting.head is not None:
                setting = setting.model_copy(update={"head": self.model.head_for(arm.head)})
            made[key] = answerer, setting, bench
        return made[key]

    def _dataset(self, name: str) -> Dataset:
        """What the configuration says of a data set."""
        (found,) = (d for d in self.config.datasets if d.name == name)
        return found

    @cached_property
    def _taught(self) -> dict[str, str]:
        """Of each data set all that its answerers are made from: data sets of one pool have it in common."""
        found = {}
        for d in self.config.datasets:
            asked, format = self.data[d.name], format_key(self.config.format_of(d.name))
            among = sorted(asked.held_out & {q.id for q in asked.references})
            found[d.name] = digest([[q.row() for q in asked.references], list(d.references), among, format])
        return found

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
            asked.held_out,
            lambda: self._prepared_for(piece.dataset).references(),
            self._dataset(piece.dataset).score,
        )

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
        values = (
            {role: self.registry.describe(made) for role, made in playing.items()}
            | {key: value for key, value in settings.items() if key in used}
            | {"control_of": arm.control_of, "varies": varies, "changes": strategy.changes(strategies)}
            | steps
            | {"calibrates": strategy.calibrates, "positive": strategy.positive}
        )
        return checked(Setting, values, f"Arm {name}", "correct the plugin that brings it")

    @cached_property
    def _plain_flops(self) -> Callable[[str], float]:
        """What a plain answer takes, on average over a data set's questions: what one-time costs are reported in."""

        @cache
        def of(dataset: str) -> float:
            format = self.config.format_of(dataset)
            asked = (self.model.encode(q, format) for q in self.data[dataset].questions)
            return fmean(self.model.plain_work(prompt).flops for prompt in asked)

        return of


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
