"""The record of an answer, every figure rounded to what it is good for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from ...errors import DataError
from ...records.answer import AnswerCost, AnswerRecord, LayerChange, Neighbour
from ...types import Answer, Question

SHOWN = 16  # neighbours that a record names, nearest first


def record_of(question: Question, answer: Answer, layers: Sequence[int], *, once: float, **known: Any) -> AnswerRecord:
    """The record of an answer.

    Args:
        layers: the model's decoder layers that are MoE layers.
        once: what was spent before the first question, in base forwards.
        known: other fields: what is the arm's, the data set's or the run's.

    Raises:
        DataError: the question has no label.
    """
    if question.answer is None:
        raise DataError(f"Expected labeled questions, got {question.id!r} without an answer; give it, or leave it out.")
    flops = asdict(answer.cost) | {"total": answer.cost.total}
    changes, raised, moved = _of_pathway(answer)
    return AnswerRecord(
        id=question.id,
        split=question.split,
        subject=question.subject,
        answer=question.answer,
        choice=answer.choice,
        correct=answer.choice == question.answer,
        base_choice=answer.base_choice,
        base_correct=None if answer.base_choice is None else answer.base_choice == question.answer,
        scores=_rounded(answer.scores),
        base_scores=_rounded(answer.base_scores),
        layers=answer.layers,
        experts=answer.experts,
        raised=raised,
        strength=None if answer.strength is None else round(answer.strength, 5),
        layer_scores=dict(zip(layers, _rounded(answer.layer_scores), strict=False)),
        neighbours=tuple(
            Neighbour(id=i, similarity=round(s, 4), weight=round(w, 4)) for i, s, w in answer.neighbours[:SHOWN]
        ),
        neighbours_used=sum(w > 0 for _, _, w in answer.neighbours),
        moved=moved,
        once=round(once, 2),
        cost=AnswerCost(**{k: round(v / answer.base_flops, 4) for k, v in flops.items()}),
        flops={k: round(v) for k, v in flops.items()},
        seconds=round(answer.seconds, 4),
        parameters=answer.parameters,
        generated=answer.generated,
        **{"pathway": changes, **known},
    )


def _of_pathway(answer: Answer) -> tuple[dict[int, LayerChange], dict[int, tuple[int, ...]], float]:
    """Of the layers that were re-mixed: own and new weights, the experts whose weight rose, and the share of all their
    weight that lies on other experts than before."""
    if answer.pathway is None or not answer.layers:
        return {}, {}, 0.0
    p = answer.pathway.used
    rows = [p.layers.index(layer) for layer in answer.layers]
    own, new = p.own[rows], p.router[rows]
    changes = {
        layer: LayerChange(own=_sparse(before), new=_sparse(after))
        for layer, before, after in zip(answer.layers, own.tolist(), new.tolist(), strict=True)
    }
    rose = {layer: tuple(row.nonzero()[:, 0].tolist()) for layer, row in zip(answer.layers, new > own, strict=True)}
    moved = (new - own).abs().sum(-1) / (2 * own.sum(-1))
    return changes, rose, round(float(moved.mean()), 5)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(v, 5) for v in values)


def _sparse(weights: list[float]) -> dict[int, float]:
    return {expert: round(w, 4) for expert, w in enumerate(weights) if w > 5e-5}
