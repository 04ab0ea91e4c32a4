"""What may be wrong with references and questions, on purpose: labels, near-duplicates, crafted texts, distractions.

Whoever does it knows the embedder and the references. Nobody knows a question's right answer but ``near_duplicates``,
which are the worst that could happen by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from c3po_adaptive import Question, RemixSettings, votes

FILTER = RemixSettings().max_similarity
"""The cosine above which references are not used by default: crafted texts stay below it."""
Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors ``[N, D]``."""


@dataclass(frozen=True)
class Crafted:
    """A text that was brought near a question.

    Attributes:
        text: the nearest that was found.
        similarity: its cosine to the question.
        tried: how many texts were embedded for it.
    """

    text: str
    similarity: float
    tried: int


def flipped(reference: Question, seed: int) -> Question:
    """The same with one of its wrong choices called right, drawn by its id."""
    return replace(reference, answer=_wrong(reference, Random(f"{seed} flip {reference.id}")))


def near_duplicate(question: Question, number: int, seed: int) -> Question:
    """The question with a typo or two neighbouring words exchanged, and a wrong choice called right.

    Args:
        question: labeled; whoever writes it knows the answer.
        number: which of its duplicates; each has errors of its own.
        seed: settles what is drawn.
    """
    drawn = Random(f"{seed} duplicate {number} {question.id}")
    change = drawn.choice((_typo, _exchanged))
    text, answer = change(question.question, drawn), _wrong(question, drawn)
    about = question.about and change(question.about, drawn)
    return replace(question, id=_id(question, number), question=text, answer=answer, about=about)


def harming(
    questions: Sequence[Question], vectors: Vectors, references: Sequence[Question], known: Vectors, seed: int
) -> list[int]:
    """Of each question the choice that its near references vote for least: without its label, what is most likely
    wrong. Of several one is drawn.

    Args:
        questions: whose labels are not looked at.
        vectors: ``[N, D]`` their embeddings.
        references: labeled ones.
        known: ``[M, D]`` their embeddings.
        seed: settles what is drawn.
    """
    found = []
    for question, shares in zip(questions, votes(questions, vectors, references, known), strict=True):
        least = np.flatnonzero(shares <= shares.min() + 1e-12).tolist()
        found.append(Random(f"{seed} label {question.id}").choice(least))
    return found


def crafted(question: str, begin: str, encode: Encode, budget: int, seed: int) -> Crafted:
    """A text made from ``begin`` by putting words of the question in the place of its own, one after the other, each
    time where it brings the text nearest to the question, but not as near as ``FILTER``.

    Greedy token swaps as in the poisoning of retrieval (Zhong et al. 2023, arXiv 2310.19156), by whole words and
    without gradients.

    Args:
        question: what is to be near.
        begin: the text that it begins with.
        encode: the embedder.
        budget: texts that may be embedded.
        seed: settles what is tried.
    """
    drawn, goal = Random(f"{seed} craft {question}"), encode([question])[0]
    words, wanted = begin.split(), question.split()
    best, tried = float(encode([begin])[0] @ goal), 1
    best = best if best <= FILTER else -1.0
    text = begin
    while tried < budget:
        batch = [_swapped(words, wanted, drawn) for _ in range(min(_TOGETHER, budget - tried))]
        near = encode([" ".join(one) for one in batch]) @ goal
        tried += len(batch)
        allowed = np.where(near <= FILTER, near, -1.0)
        if allowed.max() > best:
            words, best = batch[int(allowed.argmax())], float(allowed.max())
            text = " ".join(words)
    return Crafted(text, best, tried)


_TOGETHER = 8  # swaps of which the best is taken


def _swapped(words: list[str], wanted: list[str], drawn: Random) -> list[str]:
    """Words with some in a row replaced by as many of the wanted ones."""
    length = drawn.randint(1, max(1, len(wanted) // 2))
    start = drawn.randrange(max(1, len(wanted) - length + 1))
    piece, place = wanted[start : start + length], drawn.randrange(max(1, len(words)))
    return [*words[:place], *piece, *words[place + len(piece) :]]


def typos(question: Question, others: Sequence[str], seed: int) -> Question:
    """The question with a typo in every third word; its answer is the same."""
    drawn = Random(f"{seed} typos {question.id}")
    text, about = (_misspelt(text, drawn) for text in (question.question, question.about))
    return replace(question, question=text, about=about)


def second_topic(question: Question, others: Sequence[str], seed: int) -> Question:
    """The question after another one, which is to be left aside."""
    other = Random(f"{seed} topic {question.id}").choice([text for text in others if text != question.question])
    return replace(question, question=f"{other}\nNever mind that. {question.question}")


def long_preamble(question: Question, others: Sequence[str], seed: int) -> Question:
    """The question after a paragraph that has nothing to do with it."""
    return replace(question, question=f"{PREAMBLE}\n{question.question}")


PREAMBLE = (
    "Thank you for taking the time to read this. It has been a long week here, with rain on most days and a broken "
    "heater in the hall, so forgive me if I ramble. My neighbour, who used to repair clocks, says that everything "
    "gets easier once the kettle is on. I do not know whether he is right, but I have put it on anyway. Now to what I "
    "wanted to ask, as briefly as I can."
)


def _wrong(question: Question, drawn: Random) -> int:
    return drawn.choice([choice for choice in range(len(question.choices)) if choice != question.answer])


def _id(question: Question, number: int) -> str:
    return f"{question.id}#poison{number}"


def _misspelt(text: str, drawn: Random) -> str:
    words = text.split(" ")
    return " ".join(_typo(word, drawn) if place % 3 == 1 else word for place, word in enumerate(words))


def _typo(text: str, drawn: Random) -> str:
    """Two neighbouring letters exchanged, where there are two that differ."""
    places = [i for i in range(len(text) - 1) if text[i : i + 2].isalpha() and text[i] != text[i + 1]]
    if not places:
        return text
    i = drawn.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]


def _exchanged(text: str, drawn: Random) -> str:
    """Two neighbouring words exchanged."""
    words = text.split(" ")
    if len(words) < 2:
        return _typo(text, drawn)
    i = drawn.randrange(len(words) - 1)
    return " ".join([*words[:i], words[i + 1], words[i], *words[i + 2 :]])


def inserted(question: Question, text: str, answer: int, number: int) -> Question:
    """A reference of a text that was written for a question, with the question's choices, and found by that text."""
    return replace(question, id=_id(question, number), question=text, answer=answer, about="")
