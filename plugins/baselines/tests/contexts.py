"""Contexts whose labels are planted: a tiny random model that knows nothing, and references that follow a rule."""

import random
from dataclasses import replace
from functools import cache

from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.registry import default_registry
from c3po_adaptive.tasks.formats import as_format
from c3po_adaptive.testing import toy_context
from c3po_adaptive.testing.answerers import ToyEmbedder
from c3po_adaptive.types import Question

SYLLABLES = ("ba", "ko", "mi", "tu", "re", "la", "so", "ne")


def made(count, name, right):
    """Questions of four options of one to seven syllables; ``right`` chooses among their texts."""
    drawn, questions = random.Random(name), []
    for i in range(count):
        words = tuple("".join(drawn.choices(SYLLABLES, k=k)) for k in drawn.sample(range(1, 8), 4))
        choices = tuple(word + drawn.choice(["", "1"]) for word in words)
        asked = f"What is {''.join(drawn.choices(SYLLABLES, k=4))}?"
        questions.append(Question(f"{name}{i}", asked, choices, right(choices)))
    return questions


def longest(choices):
    return max(range(len(choices)), key=lambda c: len(choices[c]))


def with_digit(choices):
    """The first option with a digit, or the last of all."""
    return next((c for c, text in enumerate(choices) if text[-1].isdigit()), len(choices) - 1)


@cache
def references(right, count=60, format="cloze"):
    return build_reference_set(
        toy_context().model, made(count, "known", right), ToyEmbedder(), format=as_format(format)
    )


def context_of(known, strategies=None, **changes):
    """A context with these references; ``strategies`` in the place of the toy's, and fields of the context changed."""
    settings = changes.pop("settings", {})
    context = toy_context(**settings)
    specs = {"optimizer": "none", "kernel": "gaussian", "retriever": "faiss-knn"}
    specs |= {"selector": {"name": "fixed", "n": 2, "experts": 5}} | (strategies or {})
    made = {"strategies": default_registry().strategies(specs), "build_references": lambda: known} | changes
    return replace(context, **made)


def accuracy(answers, questions):
    return sum(a.choice == q.answer for a, q in zip(answers, questions, strict=True)) / len(questions)
