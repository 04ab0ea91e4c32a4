"""Data sets after what their configuration says was done to them, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from c3po_adaptive import DataError, Question, SettingError, description
from c3po_adaptive.study import Poison, Poisoned

from . import attacks
from .attacks import Crafted, Encode

_ASKED = {"typos": attacks.typos, "second-topic": attacks.second_topic, "long-preamble": attacks.long_preamble}
"""Attacks on questions."""
_INSERTING = ("near-duplicates", "crafted-neighbours")
"""Attacks that add references."""
ATTACKS = ("flipped-labels", *_INSERTING, *_ASKED)
"""Some references with a wrong choice called right; near-duplicates of questions with wrong choices called right, added
to the references; texts written to lie near questions, added with the answer that the references vote for least; and
questions with typos, after another question, or after a paragraph about something else."""


@dataclass(frozen=True)
class Attacked:
    """Questions and references after an attack.

    Attributes:
        questions: that are asked.
        references: that may be learned from, those that were added at the end.
        poison: what was done.
        changed: how many of the references, or of the questions, are poisoned.
        wrong: ids of references that teach a wrong answer now.
        missed: crafted texts that did not come near enough, and were not added.
    """

    questions: tuple[Question, ...]
    references: tuple[Question, ...]
    poison: Poison
    changed: int
    wrong: frozenset[str] = frozenset()
    missed: tuple[Crafted, ...] = ()

    @property
    def told(self) -> str:
        """In a sentence."""
        poison, asked = self.poison, self.poison.attack in _ASKED
        whole = f"{len(self.questions)} questions" if asked else f"{len(self.references)} references"
        said = f"{poison.attack}, {self.changed} of {whole}"
        if self.wrong:
            said += f", {len(self.wrong)} of which teach a wrong answer"
        if not self.missed:
            return said
        nearest = max(one.similarity for one in self.missed)
        return (
            f"{said}; for {len(self.missed)} more no text nearer than {poison.similarity:g} was found by "
            f"embedding {poison.budget}, and none was added (the nearest had {nearest:.2f})"
        )


def poisoned(
    poison: Poison, questions: tuple[Question, ...], references: tuple[Question, ...], encode: Encode
) -> Poisoned:
    """A data set after an attack, as ``register_attacks`` brings it; arguments and errors as of ``attacked``."""
    found = attacked(poison, questions, references, encode)
    return Poisoned(found.questions, found.references, found.told)


@lru_cache(maxsize=16)
def attacked(
    poison: Poison, questions: tuple[Question, ...], references: tuple[Question, ...], encode: Encode
) -> Attacked:
    """A data set after an attack, and what came of it; the same one is made once a process.

    Args:
        poison: what is done.
        questions: labeled where near-duplicates are made of them.
        references: labeled.
        encode: the embedder that crafted texts are made for.

    Raises:
        DataError: references are to be poisoned, and there are none; or questions without answers are to be duplicated.
        SettingError: references are to be added until there are no others.
    """
    if poison.attack in _INSERTING and poison.share == 1:
        raise SettingError(
            f"Expected share below 1 of {poison.attack}, which are added to the references, got 1; lower it."
        )
    if (distract := _ASKED.get(poison.attack)) is not None:
        others = [q.question for q in references or questions]
        chosen = {q.id for q in _first(questions, poison.share, poison.seed)}
        asked = tuple(distract(q, others, poison.seed) if q.id in chosen else q for q in questions)
        return Attacked(asked, references, poison, len(chosen))
    if not references:
        raise DataError(f"Expected references for {poison.attack} to poison, got none; name references: ….")
    if poison.attack == "flipped-labels":
        chosen = {q.id for q in _first(references, poison.share, poison.seed)}
        taught = tuple(attacks.flipped(q, poison.seed) if q.id in chosen else q for q in references)
        return Attacked(questions, taught, poison, len(chosen), frozenset(chosen))
    if poison.attack == "near-duplicates" and any(q.answer is None for q in questions):
        raise DataError("Expected labeled questions to make wrong duplicates of, got some without an answer; give it.")
    count = round(poison.share / (1 - poison.share) * len(references)) if questions else 0
    order = _first(questions, 1, poison.seed)
    asked_for = [(order[i % len(order)], i // len(order)) for i in range(count)]
    added, missed = _added(poison, asked_for, references, encode)
    right = {q.id: q.answer for q in questions}
    wrong = frozenset(new.id for new, of in added if new.answer != right[of])
    taught = (*references, *(new for new, _ in added))
    return Attacked(questions, taught, poison, len(added), wrong, missed)


def _added(
    poison: Poison, asked_for: Sequence[tuple[Question, int]], references: tuple[Question, ...], encode: Encode
) -> tuple[list[tuple[Question, str]], tuple[Crafted, ...]]:
    """References that are added, each with the id of the question that it was written for; and what did not do."""
    if poison.attack == "near-duplicates":
        return [(attacks.near_duplicate(q, number, poison.seed), q.id) for q, number in asked_for], ()
    if not asked_for:
        return [], ()
    vectors = encode([description(q) for q, _ in asked_for])
    known = encode([description(q) for q in references])
    wanted = attacks.harming([q for q, _ in asked_for], vectors, references, known, poison.seed)
    added, missed = [], []
    for (question, number), vector, answer in zip(asked_for, vectors, wanted, strict=True):
        nearest = (known @ vector).argsort()[::-1]
        teaching = [row for row in nearest if _right(references[row]) == question.choices[answer]]
        begin = description(references[(teaching or nearest.tolist())[number % max(1, len(teaching))]])
        made = attacks.crafted(description(question), begin, encode, poison.budget, poison.seed + number)
        if made.similarity < poison.similarity:
            missed.append(made)
        else:
            added.append((attacks.inserted(question, made.text, answer, number), question.id))
    return added, tuple(missed)


def _right(reference: Question) -> str | None:
    return None if reference.answer is None else reference.choices[reference.answer]


def _first(questions: Sequence[Question], share: float, seed: int) -> list[Question]:
    """A share of them, in an order that their ids and the seed settle: that of a smaller share is its beginning."""

    def drawn(question: Question) -> bytes:
        return sha256(f"{seed} {question.id}".encode()).digest()

    return sorted(questions, key=drawn)[: round(share * len(questions))]
