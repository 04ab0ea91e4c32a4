"""Answers pieces of a comparison: a batch of one data set by one arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ...answerers import Answerer, AnswererStrategy, Bench
from ...models.routed import RoutedModel
from ...references.build import reference_set_of
from ...references.embedding import default_embedder
from ...references.reference_set import ReferenceSet
from ...tasks.formats import as_format
from ...types import Answer, Question
from ..data import Asked, load_model, read_data
from ..executor import Piece, Row, Worker
from .config import ComparisonConfig

SHOWN = 16  # neighbours that a record names, nearest first


@dataclass(eq=False)
class ComparisonWorker(Worker):
    """Loads the model once, and each arm's references and answerer when its first piece comes.

    Attributes:
        config: of the comparison.
    """

    config: ComparisonConfig

    def __post_init__(self) -> None:
        self._references: dict[str, ReferenceSet | None] = {}
        self._ready: tuple[tuple[str, str], Answerer, dict[str, Any]] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    @cached_property
    def model(self) -> RoutedModel:
        return load_model(self.config)

    @cached_property
    def data(self) -> dict[str, Asked]:
        return read_data(self.config)

    def batch(self, piece: Piece) -> Sequence[Question]:
        """The questions of a piece."""
        size = self.config.batch_size
        return self.data[piece.dataset].questions[piece.batch * size : (piece.batch + 1) * size]

    def __call__(self, piece: Piece) -> tuple[Row, ...]:
        answerer, setting = self._answerer(piece)
        asked = self.batch(piece)
        return tuple(
            self._record(piece, question, answer, setting, answerer.needs_label)
            for question, answer in zip(asked, answerer.answer(asked), strict=True)
        )

    def strategy(self, arm: str) -> AnswererStrategy:
        """What an arm's answerer is made by."""
        made: AnswererStrategy = self.registry.create("answerer", self.config.arms[arm].answerer)
        return made

    def _answerer(self, piece: Piece) -> tuple[Answerer, dict[str, Any]]:
        """The piece's answerer, and what identifies it in results; the last one is kept."""
        key = (piece.dataset, piece.arm)
        if self._ready is None or self._ready[0] != key:
            self._ready = None  # two at once might not fit
            bench = self._bench(piece)
            strategy = self.strategy(piece.arm)
            self._ready = key, strategy.prepare(bench), self._setting(piece.arm, strategy, bench)
        return self._ready[1], self._ready[2]

    def _bench(self, piece: Piece) -> Bench:
        arm, asked = self.config.arms[piece.arm], self.data[piece.dataset]
        return Bench(
            self.model,
            self.registry.strategies(arm.specs),
            default_embedder(),
            as_format(self.config.format),
            arm.remixing,
            self.config.batch_size,
            frozenset(q.id for q in asked.questions),
            lambda: self._reference_set(piece.dataset),
        )

    def _reference_set(self, dataset: str) -> ReferenceSet | None:
        labeled = self.data[dataset].references
        if dataset not in self._references:
            format = as_format(self.config.format)
            built = reference_set_of(labeled, self.model, default_embedder(), format) if labeled else None
            self._references[dataset] = built
        return self._references[dataset]

    def _setting(self, name: str, strategy: AnswererStrategy, bench: Bench) -> dict[str, Any]:
        arm, describe = self.config.arms[name], self.registry.describe
        setting = {role: describe(getattr(bench.strategies, role)) for role in strategy.used(bench.strategies)}
        if arm.name_of("answerer") != "remix":
            setting = {"answerer": describe(strategy)} | setting
        return setting | arm.apart_from(self.config) | {"head": self.model.head_for(arm.head)}

    def _record(
        self, piece: Piece, question: Question, answer: Answer, setting: dict[str, Any], needs_label: bool
    ) -> dict[str, Any]:
        """One row, every figure rounded to what it is good for."""
        flops = asdict(answer.cost) | {"total": answer.cost.total}
        by = setting.get("answerer") or setting["optimizer"]
        return {
            "id": question.id,
            "dataset": piece.dataset,
            "split": question.split,
            "subject": question.subject,
            "arm": piece.arm,
            "optimizer": by["name"],
            "selector": setting.get("selector", {}).get("name", ""),
            "setting": setting,
            "seed": self.config.seed,
            "answer": question.answer,
            "choice": answer.choice,
            "correct": answer.choice == question.answer,
            "base_choice": answer.base_choice,
            "base_correct": None if answer.base_choice is None else answer.base_choice == question.answer,
            "scores": _rounded(answer.scores),
            "base_scores": _rounded(answer.base_scores),
            "layers": list(answer.layers),
            "experts": {str(layer): list(ids) for layer, ids in answer.experts.items()},
            "strength": None if answer.strength is None else round(answer.strength, 5),
            "layer_scores": dict(zip(map(str, self.model.layers), _rounded(answer.layer_scores), strict=False)),
            "pathway": _changes(answer) if self.config.pathways else {},
            "neighbours": [
                {"id": i, "similarity": round(s, 4), "weight": round(w, 4)} for i, s, w in answer.neighbours[:SHOWN]
            ],
            "cost": {k: round(v / answer.base_flops, 4) for k, v in flops.items()},
            "flops": {k: round(v) for k, v in flops.items()},
            "seconds": round(answer.seconds, 4),
            "needs_label": needs_label,
        }


def _changes(answer: Answer) -> dict[str, dict[str, dict[str, float]]]:
    """Own and new weights of each layer that was re-mixed."""
    pathway = answer.pathway
    if pathway is None:
        return {}
    rows = {layer: i for i, layer in enumerate(pathway.layers)}
    return {
        str(layer): {
            "own": _sparse(pathway.own[rows[layer]].tolist()),
            "new": _sparse(pathway.weights[rows[layer]].tolist()),
        }
        for layer in answer.layers
    }


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(v, 5) for v in values]


def _sparse(weights: list[float]) -> dict[str, float]:
    return {str(expert): round(w, 4) for expert, w in enumerate(weights) if w > 5e-5}
