"""The questions and references of a study's data sets, and what identifies a run beside its configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..analysis.dataset_in_words import DatasetsInWords
from ..errors import DataError, PluginError, disk_says
from ..models.fingerprint import fingerprint, settings_identity
from ..models.loading import load_moe_model
from ..models.routed import RoutedModel
from ..progress import working
from ..records.summary import FEW_REFERENCES
from ..references.build import labeled_questions
from ..references.embedding import embedder_named
from ..registry import Registry, default_registry
from ..storage.identity import digest, digest_of_file, versions
from ..storage.json_files import Values
from ..tasks.question_files import first_of, unique, within
from ..tasks.same_questions import SameQuestions, again_in_words, asked_of, distinct
from ..tasks.sources import ASKED
from ..tasks.sources import questions as read_questions
from ..types import Question
from .study_config import Dataset, OnQuestions, Poison, Poisoned


@dataclass(frozen=True)
class Asked:
    """A data set, read.

    Attributes:
        questions: those that are asked, each once.
        references: those that may be learned from.
        again: repeated questions, which are left out, each with the one that is asked.
        poisoned: what was done to both on purpose, in a sentence.
        before: the references as they were before that; None: nothing was done.
    """

    questions: Sequence[Question]
    references: Sequence[Question]
    again: Sequence[tuple[Question, Question]] = ()
    poisoned: str = ""
    before: Sequence[Question] | None = None

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Ids that nothing is trained on: of the questions, and of references that are the same by another id."""
        return asked_of(self.references, self.questions)

    @property
    def known(self) -> int:
        """How many references are not asked themselves."""
        return len({q.id for q in self.references} - self.held_out)


Data = Mapping[str, Asked]
"""By the data set's name."""


Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to unit vectors ``[N, D]``, by the embedder of the study's retrieval."""
Attack = Callable[[Poison, tuple[Question, ...], tuple[Question, ...], Encode], Poisoned]
"""What ``register_attacks`` brings: what the configuration says, the questions, the references and the embedder to what
they are after it. It has to be the same whenever it is asked for."""


def spread(questions: Sequence[Question], number: int) -> Sequence[Question]:
    """So many of them, from the first on, as far apart as can be."""
    return questions if len(questions) <= number else [questions[i * len(questions) // number] for i in range(number)]


def counted(data: Data) -> list[dict[str, str | int]]:
    """How many there are of each data set."""
    return [
        {"name": n, "questions": len(d.questions), "references": len(d.references), "given_again": len(d.again)}
        for n, d in data.items()
    ]


def counted_in_words(data: Data) -> list[str]:
    """How many questions and references there are of each data set, in sentences."""
    counts = [f"{name}: {len(d.questions)} questions, {len(d.references)} references" for name, d in data.items()]
    references = {name: distinct(d.references)[1] for name, d in data.items()}
    few = {name: len(d.references) for name, d in data.items() if 0 < len(d.references) < FEW_REFERENCES}
    return [
        *counts,
        *(f"few references: {name} has {n}: neighbours are most of them, near or not" for name, n in few.items()),
        *(f"not trained on: {line}" for line in _asked_themselves(data)),
        *(f"poisoned: {line}" for line in poisoned_in_words(data)),
        *(f"counted once: {line}" for line in counted_once(data)),
        *(f"learned from as often: {again_in_words(p, 'references', n)}" for n, p in references.items() if p),
    ]


def _asked_themselves(data: Data) -> list[str]:
    """A line for each data set that asks questions which are among its references."""
    counts = {name: (len(d.references) - d.known, len(d.references)) for name, d in data.items()}
    return [f"{name} asks {n} of its {whole} references, by id or text" for name, (n, whole) in counts.items() if n]


def poisoned_in_words(data: Data) -> list[str]:
    """A sentence on each data set that was poisoned: how much, and what found no place."""
    return [f"{name}: {asked.poisoned}" for name, asked in data.items() if asked.before is not None]


def counted_once(data: Data) -> list[str]:
    """A line for each data set with repeated questions."""
    return [again_in_words(asked.again, "questions", name) for name, asked in data.items() if asked.again]


def read_data(config: OnQuestions, registry: Registry | None = None) -> dict[str, Asked]:
    """Every data set of a configuration, from where it is, after what its configuration says was done to it.

    Raises:
        DataError: a source is missing or broken, or has nothing that an attack needs.
        UnknownNameError: no plugin brings the attack.
        PluginError: one makes something else than it may.
    """
    poisons = {d.name: d.poison for d in config.datasets if d.poison is not None}
    attacks = {name: (registry or default_registry()).other("attack", p.attack) for name, p in poisons.items()}
    again = DatasetsInWords(config.model_dump(mode="json")).again([d.name for d in config.datasets])
    found = _apart({d.name: _read(d) for d in config.datasets}, again)
    return found | {name: _attacked(found[name], p, attacks[name], config.embedder) for name, p in poisons.items()}


def _apart(read: Mapping[str, Asked], again: Collection[str]) -> dict[str, Asked]:
    """Data sets without the questions of earlier ones, which a mean over them would count twice; ``again`` is in none.

    Raises:
        DataError: nothing is left of one.
    """
    known, found = SameQuestions(), dict(read)
    for name, asked in read.items():
        if name in again:
            continue
        pairs = [(q, before) for q in asked.questions if (before := known.first(q)) is not None]
        gone = {q.id for q, _ in pairs}
        left = [q for q in asked.questions if q.id not in gone]
        if not left:
            raise DataError(f"Expected questions of {name!r} that no other data set asks, got none; leave it out.")
        found[name] = replace(asked, questions=left, again=(*asked.again, *pairs))
        for question in left:
            known.add(question)
    return found


def _attacked(asked: Asked, poison: Poison, attack: Attack, embedder: str) -> Asked:
    references = tuple(asked.references)
    found = attack(poison, tuple(asked.questions), references, embedder_named(embedder).encode)
    if not isinstance(found, Poisoned):
        raise PluginError(
            f"Expected the attack {poison.attack!r} to give a Poisoned, got {type(found).__name__}; correct its plugin."
        )
    pairs = zip(found.references, references, strict=False)
    if tuple(replace(new, answer=old.answer) for new, old in pairs) != references:
        raise PluginError(
            f"Expected the attack {poison.attack!r} to leave the references as they are, but for their answers, and to "
            "add others behind them, got other texts or another order; correct its plugin."
        )
    return replace(
        asked, questions=found.questions, references=found.references, poisoned=found.told, before=references
    )


def _read(dataset: Dataset) -> Asked:
    """A data set as it is.

    Raises:
        DataError: one id stands for two questions: then a question would leave out another than itself.
    """
    (questions, again), references = _asked(dataset), references_of(dataset)
    by_id = {q.id: q for q in questions}
    for reference in references:
        own = by_id.get(reference.id, reference)
        if (own.question, own.choices, own.images) != (reference.question, reference.choices, reference.images):
            raise DataError(
                f"Expected one question by each id in {dataset.name!r}, got {own.id!r} of two, {own.question[:60]!r} "
                f"and, among the references, {reference.question[:60]!r}; rename one of the files (ids are made from "
                "their names), or give ids."
            )
    return Asked(questions, references, again)


def load_model(config: OnQuestions) -> RoutedModel:
    """The model of a configuration; errors as for ``load_moe_model``."""
    with working(f"loading {config.model}"):
        return load_moe_model(
            config.model, dtype=config.dtype, device=config.device, quantize=config.quantize, revision=config.revision
        )


def inputs_of(
    model: RoutedModel, data: Data, plugins: Mapping[str, str], files: Mapping[str, str] | None = None
) -> Values:
    """What decides a run's results beside its configuration: resumed with anything else it would be two runs in one.

    Args:
        plugins: hashes of those that have a part in it, by name.
        files: paths of what these read, by the names that the configuration has for them.

    Raises:
        DataError: one of the files is not there.
    """
    read = {"files": {name: file_digest(path) for name, path in sorted(files.items())}} if files else {}
    return {
        **read,
        "model": fingerprint(model),
        "settings": settings_identity(model),
        "questions": {name: digest([q.row() for q in asked.questions]) for name, asked in data.items()},
        "references": {name: digest([q.row() for q in asked.references]) for name, asked in data.items()},
        "plugins": dict(plugins),
        "versions": versions(),
    }


def file_digest(path: str) -> str:
    """Of what a file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return digest_of_file(Path(path))
    except OSError as error:
        raise DataError(f"Expected a file at {path}, got: {disk_says(error)}; check the path.") from None


def questions_of(dataset: Dataset) -> list[Question]:
    """Those that are asked, each once."""
    return _asked(dataset)[0]


def _asked(dataset: Dataset) -> tuple[list[Question], list[tuple[Question, Question]]]:
    """Those that are asked, and those that are left out because one of these was the same."""
    shared = _in_share(read_questions(dataset.questions, split=dataset.split, usual=ASKED), dataset.share, dataset.name)
    once, again = distinct(shared)
    questions = first_of(once, dataset.limit)
    splits = sorted({q.split for q in questions})
    if len(splits) > 1:
        raise DataError(f"Expected one split of {dataset.name!r}, got {', '.join(splits)}; name one with split: ….")
    asked = {q.id for q in questions}
    return questions, [pair for pair in again if pair[1].id in asked]


def references_of(dataset: Dataset) -> list[Question]:
    """Those that stand beside them; what stands there twice teaches twice, and no interval is over references."""
    placed = [(source, q) for source in dataset.references for q in _drawn(source, dataset)]
    # By its id a question finds itself among the references, to leave itself out.
    return [q for _, q in unique(placed, dataset.name)] if placed else []


def _drawn(source: str, dataset: Dataset) -> list[Question]:
    """Those of one source: all of the share, or the draw that is asked for."""
    limit, draw = dataset.references_limit, dataset.references_draw
    read = labeled_questions(source, split=dataset.references_split)
    shared = _in_share(read, dataset.references_share, source)
    if limit is None:
        return list(shared)
    known, begin = first_of(shared, (draw + 1) * limit), draw * limit
    return [known[i % len(known)] for i in range(begin, begin + min(limit, len(known)))]


def _in_share(questions: Sequence[Question], share: tuple[float, float] | None, name: str) -> Sequence[Question]:
    """Those of a share; all of them without one.

    Raises:
        DataError: there are none.
    """
    if share is None:
        return questions
    if inside := within(questions, share):
        return inside
    raise DataError(f"{name}: expected questions in the share {list(share)}, got none of {len(questions)}; widen it.")
