"""The questions and references of a study's data sets, and what identifies a run beside its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..models.identity import fingerprint
from ..models.loading import load_moe_model
from ..models.routed import RoutedModel
from ..progress import working
from ..references.build import labeled_questions
from ..registry import Registry
from ..storage.identity import digest, digest_of_file, versions
from ..tasks.files import first_of, unique, within
from ..tasks.sources import ASKED
from ..tasks.sources import questions as read_questions
from ..types import Question
from .config import Dataset, OnQuestions


@dataclass(frozen=True)
class Asked:
    """A data set, read.

    Attributes:
        questions: those that are asked.
        references: those that may be learned from.
    """

    questions: Sequence[Question]
    references: Sequence[Question]

    @property
    def known(self) -> int:
        """How many references are not asked themselves."""
        return len({q.id for q in self.references} - {q.id for q in self.questions})


Data = Mapping[str, Asked]
"""By the data set's name."""


def spread(questions: Sequence[Question], number: int) -> Sequence[Question]:
    """So many of them, from the first on, as far apart as can be."""
    return questions if len(questions) <= number else [questions[i * len(questions) // number] for i in range(number)]


def counted(data: Data) -> list[dict[str, Any]]:
    """How many there are of each data set."""
    return [{"name": n, "questions": len(d.questions), "references": len(d.references)} for n, d in data.items()]


def counted_in_words(data: Data) -> list[str]:
    """The same for a person."""
    return [f"{name}: {len(d.questions)} questions, {len(d.references)} references" for name, d in data.items()]


def read_data(config: OnQuestions) -> dict[str, Asked]:
    """Every data set of a configuration, from where it is.

    Raises:
        DataError: a source is missing or broken.
    """
    return {d.name: _told_apart(d, Asked(questions_of(d), references_of(d))) for d in config.datasets}


def _told_apart(dataset: Dataset, asked: Asked) -> Asked:
    """The same, unless one id stands for two questions: then a question would leave out another than itself."""
    by_id = {q.id: q for q in asked.questions}
    for reference in asked.references:
        own = by_id.get(reference.id, reference)
        if (own.question, own.choices) != (reference.question, reference.choices):
            raise DataError(
                f"Expected one question by each id in {dataset.name!r}, got {own.id!r} of two, {own.question[:60]!r} "
                f"and, among the references, {reference.question[:60]!r}; rename one of the files (ids are made from "
                "their names), or give ids."
            )
    return asked


def load_model(config: OnQuestions) -> RoutedModel:
    """The model of a configuration; errors as for ``load_moe_model``."""
    with working(f"loading {config.model}"):
        return load_moe_model(
            config.model, dtype=config.dtype, device=config.device, quantize=config.quantize, revision=config.revision
        )


def inputs_of(
    model: RoutedModel, data: Data, registry: Registry, files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What decides a run's results beside its configuration: resumed with anything else it would be two runs in one.

    Args:
        model: that answers.
        data: what is asked and learned from.
        registry: of the strategies.
        files: paths of what these read, by the names that the configuration has for them.

    Raises:
        DataError: one of the files is not there.
    """
    read = {"files": {name: file_digest(path) for name, path in sorted(files.items())}} if files else {}
    return read | {
        "model": fingerprint(model),
        "questions": {name: digest([asdict(q) for q in asked.questions]) for name, asked in data.items()},
        "references": {name: digest([asdict(q) for q in asked.references]) for name, asked in data.items()},
        "plugins": registry.files,
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
        raise DataError(f"Expected a file at {path}, got: {error.strerror or error}; check the path.") from None


def questions_of(dataset: Dataset) -> list[Question]:
    """Those that are asked."""
    read = read_questions(dataset.questions, split=dataset.split, usual=ASKED)
    questions = first_of(_in_share(read, dataset.share, dataset.name), dataset.limit)
    splits = sorted({q.split for q in questions})
    if len(splits) > 1:
        raise DataError(f"Expected one split of {dataset.name!r}, got {', '.join(splits)}; name one with split: ….")
    return questions


def references_of(dataset: Dataset) -> list[Question]:
    """Those that stand beside them."""
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
    if kept := within(questions, share):
        return kept
    raise DataError(f"{name}: expected questions in the share {list(share)}, got none of {len(questions)}; widen it.")
