"""Kinds from their published sources: rows of the Hub in the bed's words, without those that experts learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files

from c3po_benchmarks import published_questions

from c3po_adaptive import Question
from c3po_adaptive.tasks import first_of, within

from .hub_kinds import HUB
from .wording import wordings

SIZES = {"references": 200, "validation": 40, "test": 60}
"""Questions of a kind and split, at most."""
SHARES = {"references": (0.0, 0.5), "validation": (0.5, 0.7), "test": (0.7, 1.0)}
"""Parts of the source's split, by the hash of ids: they do not overlap where all come from one."""
FINGERPRINT = 6
"""Bytes of each text that an expert learned from, in ``learned.bin``."""
LONG = 24
"""Letters and digits of a text that is told by itself; of shorter ones many are the same by chance."""


def from_hub(kind: str, split: str) -> list[Question]:
    """Questions of a kind, drawn by the hash of their ids, the answers in equal shares as far as they go.

    They are no rows of the bed's files: of the same source in the same words, and none that an expert learned from.

    Args:
        kind: in ``HUB``.
        split: of ``SIZES``.

    Raises:
        DataError: the data set cannot be reached, or has other columns.
        ArtifactError: the library ``datasets`` is not installed.
    """
    source = HUB[kind]
    part = source.references if split == "references" else source.asked
    rows = [question for _, question in published_questions(source.benchmark, kind, part)]
    return _balanced(fresh(kind, within(rows, SHARES[split])))[: SIZES[split]]


def fresh(kind: str, questions: Sequence[Question]) -> list[Question]:
    """Those of a kind without a text that an expert learned from, whatever was asked of it there."""
    return [question for question in questions if learned().isdisjoint(fingerprints(kind, question))]


def fingerprints(kind: str, question: Question) -> set[bytes]:
    """Of the texts that a question of a kind is about, without its instruction; of short ones all together."""
    parts = wordings()[kind].parts(question.question) if kind in wordings() else None
    long = [part for part in (parts or {}).values() if sum(map(str.isalnum, part)) >= LONG]
    return {fingerprint(text) for text in long or [question.question]}


def fingerprint(text: str) -> bytes:
    """Of a text's letters and digits; spaces, marks and capitals do not count."""
    return sha256("".join(filter(str.isalnum, text.lower())).encode()).digest()[:FINGERPRINT]


@cache
def learned() -> frozenset[bytes]:
    """Fingerprints of all that experts learn from."""
    data = (files(__package__) / "learned.bin").read_bytes()
    return frozenset(data[start : start + FINGERPRINT] for start in range(0, len(data), FINGERPRINT))


def _balanced(questions: Sequence[Question]) -> list[Question]:
    """The first of each answer, the second of each, …; in the order of the hash of their ids."""
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, Question]] = []
    for question in first_of(questions, max(len(questions), 1)):
        answer = question.choices[question.answer or 0]
        ranked.append((seen[answer], question))
        seen[answer] += 1
    return [question for _, question in sorted(ranked, key=lambda pair: pair[0])]
