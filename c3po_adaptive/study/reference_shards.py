"""Shards of reference sets, and of the states that are stored of them, computed wherever an executor computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DataError
from ..models.footprint import as_dtype
from ..models.routed import RoutedModel
from ..progress import Progress, silent
from ..references.build import SHARD, Shards, build_reference_set, reference_shard
from ..references.embedding import NAME, embedder_named
from ..references.prefill_store import PrefillStore, build_store, state_shard
from ..references.reference_set import ReferenceSet
from ..registry import new_registry
from ..tasks.formats import as_format
from ..types import Question
from .data import Asked, inputs_of
from .executor import Executor, Piece, Row
from .study_config import OnQuestions
from .worker import Worker

SET = "references"


@dataclass(eq=False)
class ReferenceWorker(Worker[OnQuestions]):
    """Runs labeled questions; a piece is a shard of them."""

    def rows(self, piece: Piece) -> tuple[Row, ...]:
        format = self.config.format_of(piece.dataset)
        return ({"shard": reference_shard(self.model, self.batch(piece), self.embedder, format)},)


@dataclass(eq=False)
class StateWorker(Worker[OnQuestions]):
    """Computes what tails start from; a piece is a shard of a set's successes."""

    precision: str = "auto"

    def rows(self, piece: Piece) -> tuple[Row, ...]:
        format = self.config.format_of(piece.dataset)
        prompts = [self.model.encode(q, format) for q in self.batch(piece)]
        return ({"shard": state_shard(self.model, prompts, self.dtype)},)

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision as a dtype; None: the model's."""
        return None if self.precision == "auto" else as_dtype(self.precision)


def build_set_by(
    executor: Executor,
    model: RoutedModel,
    load: Mapping[str, str | None],
    questions: Sequence[Question],
    *,
    format: str = "cloze",
    scratch: Path | None = None,
    progress: Progress = silent,
) -> ReferenceSet:
    """``build_reference_set``, its shards computed by an executor.

    Args:
        model: loaded here; a process that loads another one refuses.
        load: how it is loaded elsewhere: ``model`` (its name), ``dtype``, ``device``, ``quantize``, ``revision``.
        scratch: a folder for shards of a build that is interrupted.

    Raises:
        DataError: a question without an answer; or a worker lacks the model, or the same versions.
    """
    compute = _shards(executor, ReferenceWorker(_config(format, load)), model, questions)
    embedder = embedder_named(NAME)
    return build_reference_set(
        model, questions, embedder, format=as_format(format), scratch=scratch, progress=progress, compute=compute
    )


def build_store_by(
    executor: Executor,
    model: RoutedModel,
    load: Mapping[str, str | None],
    references: ReferenceSet,
    folder: Path,
    *,
    format: str = "cloze",
    precision: str = "auto",
    progress: Progress = silent,
) -> PrefillStore:
    """``build_store``, its shards computed by an executor; ``precision`` on disk: ``auto`` or a dtype's name."""
    worker = StateWorker(_config(format, load), precision=precision)
    compute = _shards(executor, worker, model, references.successes.questions)
    return build_store(
        references, model, folder, format=as_format(format), dtype=worker.dtype, progress=progress, compute=compute
    )


def _shards(
    executor: Executor, worker: Worker[OnQuestions], model: RoutedModel, questions: Sequence[Question]
) -> Shards:
    worker.data, worker.model = {SET: Asked(questions, ())}, model
    worker.inputs = inputs_of(model, worker.data, new_registry().files_of(()))

    def compute(firsts: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        with closing(executor.map(worker, (Piece(SET, "", first // SHARD) for first in firsts))) as computed:
            for done in computed:
                if done.failure:
                    raise DataError(done.failure)
                yield done.piece.batch * SHARD, done.rows[0]["shard"]

    return compute


def _config(format: str, load: Mapping[str, str | None]) -> OnQuestions:
    named = {"datasets": [{"name": SET, "questions": SET}], "format": format, "batch_size": SHARD}
    return OnQuestions.of({**named, **load})
