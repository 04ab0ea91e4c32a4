"""What a report's script draws questions from: every answer in few bytes, and how it came about while there is room."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..analysis.statistics import probabilities
from ..errors import DataError
from ..records.answer import AnswerRecord
from ..types import Question

DIGITS = 4
ANSWERS = 24_000  # on the page, some 2 MB; all of them are in the records
DETAILS = 1_800_000  # characters: of neighbours and pathways

Key = tuple[str, str]
"""Data set and id of a question."""


def payload(
    records: Sequence[AnswerRecord],
    arms: Sequence[str],
    baseline: str,
    questions: Mapping[Key, Question],
    references: Mapping[Key, Question],
) -> dict[str, object]:
    """The data; numbers after the point are integers over ``scale``, and what answers share is stored once.

    Returns:
        ``questions``; ``answers``, each ``[question, arm, seed, choice, before, after, layers, cost, seconds, detail]``
        where before, layers and detail are places in the lists of these names (no detail: null); ``own``: weights of
        the model itself, which pathways name by place; ``references``: texts of the neighbours.

    Raises:
        DataError: a text belongs to another question than its record.
    """
    shown = _shown(records)
    records = [r for r in records if (r.dataset, r.id) in shown]
    first: dict[Key, AnswerRecord] = {}
    for r in records:
        first.setdefault((r.dataset, r.id), r)
    places = {key: i for i, key in enumerate(first)}
    base = {(r.dataset, r.id): r for r in records if r.arm == baseline}
    before, layers, details = _Once(), _Once(), _Details(records, references)
    answers = []
    for r in records:
        key = (r.dataset, r.id)
        plain = r if r.base_choice is not None else base[key]
        was = (plain.choice, plain.scores) if plain is not r else (r.base_choice, r.base_scores)
        answers.append([
            *(places[key], arms.index(r.arm), r.seed, r.choice),
            before.place([was[0], _whole(probabilities(was[1]))]),
            _whole(probabilities(r.scores)),
            layers.place(r.layers),
            *(round(r.cost.total, DIGITS), round(r.seconds, DIGITS)),
            details.place(r),
        ])  # fmt: skip
    return {
        "scale": 10**DIGITS,
        "arms": list(arms),
        "datasets": sorted({dataset for dataset, _ in places}),
        "questions": [_asked(first[key], questions.get(key)) for key in places],
        "answers": answers,
        "before": before.values,
        "layers": layers.values,
        "details": details.values,
        "own": details.own.values,
        "references": details.texts(),
    }


def _shown(records: Sequence[AnswerRecord]) -> set[Key]:
    """The first questions, as many of each data set."""
    ids: dict[str, dict[str, None]] = {}
    for record in records:
        ids.setdefault(record.dataset, {})[record.id] = None
    arms = {record.arm for record in records}
    each = max(1, ANSWERS // max(1, len(arms) * len(ids)))
    return {(name, id_) for name, all_of_it in ids.items() for id_ in list(all_of_it)[:each]}


class _Once:
    """Values stored once; most arms start from the same pathway."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        place = self._places.setdefault(json.dumps(value), len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place


class _Details:
    """Neighbours, scores of layers, and pathways: of all arms on a question or of none, so that they can be compared.

    Where there is no room for all, questions come first on which some arm changed the answer, data sets in turns.
    """

    def __init__(self, records: Sequence[AnswerRecord], references: Mapping[Key, Question]) -> None:
        self.values: list[Any] = []
        self.own = _Once()
        self._references = references
        self._used: dict[Key, None] = {}
        self._places: dict[int, int] = {}
        room = DETAILS
        for group in _in_turns(records):
            made = [self._detail(r) for r in group]
            room -= sum(len(json.dumps(m)) for m in made)
            if room < 0 and self.values:
                break
            for record, detail in zip(group, made, strict=True):
                self._places[id(record)] = len(self.values)
                self.values.append(detail)
                self._used |= {(record.dataset, n.id): None for n in record.neighbours}

    def place(self, record: AnswerRecord) -> int | None:
        return self._places.get(id(record))

    def texts(self) -> dict[str, dict[str, list[str]]]:
        """Of the neighbours that are named, ``[question, right answer]`` by data set and id."""
        texts: dict[str, dict[str, list[str]]] = {}
        for dataset, id_ in sorted(self._used.keys() & self._references.keys()):
            near = self._references[dataset, id_]
            right = "" if near.answer is None else near.choices[near.answer]
            texts.setdefault(dataset, {})[id_] = [near.question, right]
        return texts

    def _detail(self, record: AnswerRecord) -> dict[str, object]:
        return {
            "layerScores": {k: v for k, v in record.layer_scores.items() if k in record.layers},
            # Where a pathway was recorded, it shows which experts changed.
            "experts": {k: v for k, v in record.experts.items() if k not in record.pathway},
            "pathway": {
                layer: [self.own.place(_weights(weights.own)), _weights(weights.new)]
                for layer, weights in record.pathway.items()
            },
            "neighbours": [[n.id, *_whole([n.similarity, n.weight])] for n in record.neighbours],
            **({} if record.generated is None else {"wrote": record.generated}),
        }


def _in_turns(records: Sequence[AnswerRecord]) -> Iterator[list[AnswerRecord]]:
    """The records of one question after the other."""
    groups: dict[str, dict[str, list[AnswerRecord]]] = {}
    for r in records:
        groups.setdefault(r.dataset, {}).setdefault(r.id, []).append(r)
    order = []
    for each in groups.values():
        sure = sorted(each.values(), key=lambda group: len({r.choice for r in group}) == 1)
        order += [(len({r.choice for r in group}) == 1, turn, group) for turn, group in enumerate(sure)]
    for *_, group in sorted(order, key=lambda entry: entry[:2]):
        yield group


def _asked(record: AnswerRecord, question: Question | None) -> dict[str, object]:
    asked = {"id": record.id, "set": record.dataset, "subject": record.subject, "gold": record.answer}
    if question is None:
        return asked
    # A file of another version would put wrong words beside right numbers.
    if len(question.choices) != len(record.scores) or question.answer not in (None, record.answer):
        raise DataError(
            f"Expected {record.id!r} with {len(record.scores)} choices and answer {record.answer}, got "
            f"{len(question.choices)} and {question.answer}; give the question file that the run was made with."
        )
    return {**asked, "text": question.question, "choices": list(question.choices)}


def _whole(values: Any) -> list[int]:
    return [round(float(v) * 10**DIGITS) for v in values]


def _weights(sparse: Mapping[int, float]) -> list[int]:
    """``[expert, weight, expert, weight, …]``."""
    return [number for expert, w in sparse.items() for number in (expert, round(w * 10**DIGITS))]
