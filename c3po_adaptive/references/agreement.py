"""How far the answer of a labeled question fits the answers of its nearest references."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..retrievers.faiss_knn import FaissKNN
from ..types import Question

NEAR = 10
LENGTH = 0.245
"""Neighbours that have a vote, and the length of the Gaussian by which it counts; of 5, 10, 20 and 40, and of 0.245,
0.5 and equal votes, these found flipped labels best on another draw of references (``studies/poisoned``)."""

Vectors = NDArray[np.float32]


def votes(
    questions: Sequence[Question],
    vectors: Vectors,
    references: Sequence[Question],
    known: Vectors,
    left_out: Sequence[Collection[int]] | None = None,
) -> list[NDArray[np.float64]]:
    """What share of its neighbours' votes each choice of each question has, ``[C]`` a question.

    A neighbour votes for the choice whose text is its own right answer; where there is none, for nothing. So the shares
    sum to less than one where neighbours answer something else.

    Args:
        questions: whose choices are voted for; their own answers are not looked at.
        vectors: ``[N, D]`` their embeddings.
        references: labeled ones, that vote.
        known: ``[M, D]`` their embeddings.
        left_out: for each question, rows of the references that do not vote.
    """
    hits = FaissKNN(NEAR).fit(known).search(vectors, exclude=left_out)
    found = []
    for question, rows, similarity in zip(questions, hits.index, hits.similarity, strict=True):
        weight = np.exp((similarity.astype(float) - 1) / LENGTH**2) * (rows >= 0)
        answers = [_right(references[row]) if row >= 0 else None for row in rows]
        each = [sum(w for w, a in zip(weight, answers, strict=True) if a == choice) for choice in question.choices]
        found.append(np.array(each, float) / max(weight.sum(), 1e-30))
    return found


@dataclass(frozen=True)
class Suspect:
    """A reference that its nearest ones vote against.

    Attributes:
        id: of the reference.
        answer: the choice that it calls right.
        voted: the one that they vote for.
        suspicion: by how much, see ``suspicion``.
    """

    id: str
    answer: str
    voted: str
    suspicion: float


def suspicion(references: Sequence[Question], vectors: Vectors) -> NDArray[np.float64]:
    """``[N]`` by how much its neighbours' votes for another of its choices exceed those for a reference's own answer:
    from -1, all of them agree, to 1, all of them want one other answer; 0 where none of them knows its choices.

    Each reference is left out of its own neighbours, so its label has no say (edited nearest neighbours, Wilson 1972,
    IEEE Trans. SMC 2:408, with votes by nearness). Where every question has choices of its own it finds nothing.

    Args:
        references: labeled ones.
        vectors: ``[N, D]`` their embeddings.
    """
    return np.array([one.suspicion for one in _each(references, vectors)])


def suspects(references: Sequence[Question], vectors: Vectors) -> list[Suspect]:
    """Those whose neighbours vote against them, the most suspicious first; arguments as of ``suspicion``."""
    found = [one for one in _each(references, vectors) if one.suspicion > 0]
    return sorted(found, key=lambda one: -one.suspicion)


def _each(references: Sequence[Question], vectors: Vectors) -> list[Suspect]:
    """Of every reference, whom its neighbours vote for in its place."""
    labeled = [(q, q.answer) for q in references if q.answer is not None]
    if len(labeled) < max(2, len(references)):
        return [Suspect(q.id, "", "", 0.0) for q in references]
    shares = votes(references, vectors, references, vectors, [{row} for row in range(len(references))])
    return [_suspect(q, answer, share) for (q, answer), share in zip(labeled, shares, strict=True)]


def _suspect(reference: Question, answer: int, shares: NDArray[np.float64]) -> Suspect:
    others = np.where(np.arange(len(shares)) == answer, -np.inf, shares)
    voted = int(others.argmax())
    against = float(shares[voted] - shares[answer])
    return Suspect(reference.id, reference.choices[answer], reference.choices[voted], against)


def _right(reference: Question) -> str | None:
    return None if reference.answer is None else reference.choices[reference.answer]
