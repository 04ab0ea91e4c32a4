"""Shards of reference sets, and of the states that are kept of them, computed wherever an executor computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import DataError
from ..models.footprint import as_dtype
from ..models.routed import RoutedModel
from ..references.build import SHARD, Shards, reference_shard
from ..references.prefill_store import state_shard
from ..registry import new_registry
from ..types import Question
from .config import OnQuestions
from .data import Asked, inputs_of
from .executor import Executor, Piece, Row
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
    """Computes what tails start from; a piece is a shard of a set's successes.

    Attributes:
        kept: precision on disk: ``auto`` (the model's) or a dtype's name.
    """

    kept: str = "auto"

    def rows(self, piece: Piece) -> tuple[Row, ...]:
        format = self.config.format_of(piece.dataset)
        prompts = [self.model.encode(q, format) for q in self.batch(piece)]
        return ({"shard": state_shard(self.model, prompts, None if self.kept == "auto" else as_dtype(self.kept))},)


def shards_by(
    executor: Executor, worker: Worker[OnQuestions], model: RoutedModel, questions: Sequence[Question]
) -> Shards:
    """How an executor computes a set's shards.

    Args:
        executor: computes them.
        worker: of the model and the format.
        model: loaded here; a process that loads another one refuses.
        questions: of the set, in order.

    Raises:
        DataError: when shards are computed, by a worker that lacks the model or the same versions.
    """
    worker.__dict__ |= {"data": {SET: Asked(questions, ())}, "model": model}
    worker.inputs = inputs_of(model, worker.data, new_registry())

    def compute(firsts: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Tensor]]]:
        for done in executor.map(worker, (Piece(SET, "", first // SHARD) for first in firsts)):
            if done.failure:
                raise DataError(done.failure)
            yield done.piece.batch * SHARD, done.rows[0]["shard"]

    return compute


def set_config(source: str, format: str, model: Mapping[str, str | None]) -> OnQuestions:
    """The configuration of a set's worker.

    Args:
        source: of its questions.
        format: how they are put.
        model: what configurations say of it: ``model`` (its name), ``dtype``, ``device``, ``quantize``, ``revision``.
    """
    named = {"datasets": [{"name": SET, "questions": source}], "format": format, "batch_size": SHARD}
    return OnQuestions.of({**named, **model})
