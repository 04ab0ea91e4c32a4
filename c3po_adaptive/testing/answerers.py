"""The contract of answerers, and a context to run it on: a tiny random model, and questions of some words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..answerers.base import AnswererStrategy, AnsweringContext
from ..registry import default_registry
from ..settings import RemixSettings
from ..tasks.formats import as_format
from ..types import Answer, Changes, Question
from .contract import Contract, check_identity, expect, not_for
from .optimizers import UPPER_BOUND

if TYPE_CHECKING:
    from ..models.routed import RoutedModel
    from ..references.embedding import Embedder
    from ..references.reference_set import ReferenceSet

_WORDS = ("boat", "stone", "wood", "iron", "cork", "leaf", "sand", "glass", "wool", "milk", "rope", "salt")


class ToyEmbedder:
    """Unit vectors ``[N, 16]`` that a text's letters settle."""

    name = "toy"
    revision = "1"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[N, 16]`` of N texts."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = [np.random.default_rng(seed).normal(size=16) for seed in seeds]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(-1, 16)

    def flops(self, text: str) -> float:
        """Of embedding a text."""
        return 10.0 * len(text)


def toy_questions(count: int, name: str) -> list[Question]:
    """Labeled questions of two to four choices."""
    made = []
    for i in range(count):
        choices = tuple(f"{_WORDS[(i + 5 * c) % 12]}{'s' * c}" for c in range(2 + i % 3))
        made.append(Question(f"{name}{i}", f"Where is {_WORDS[i % 12]} {i} of {name}?", choices, i % len(choices)))
    return made


@cache
def _model() -> RoutedModel:
    from ..models.routed import RoutedModel  # transformers, which checks of other roles do without
    from ..models.tiny import tiny_moe, tiny_tokenizer

    return RoutedModel(tiny_moe("olmoe"), tiny_tokenizer(), name="tiny")


def _weights() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in _model().model.state_dict().items()}


@cache
def _references() -> ReferenceSet:
    from ..references.build import build_reference_set

    return build_reference_set(_model(), toy_questions(20, "references"), cast("Embedder", ToyEmbedder()))


def toy_context(**settings: Any) -> AnsweringContext:
    """A context with 20 references, and strategies that fit the tiny model; ``settings`` of re-mixing."""
    specs = {"optimizer": {"name": "ngd", "steps": 2}, "kernel": "gaussian", "retriever": "faiss-knn"}
    return AnsweringContext(
        _model(),
        default_registry().strategies(specs | {"selector": {"name": "fixed", "n": 2, "experts": 5}}),
        cast("Embedder", ToyEmbedder()),
        as_format("cloze"),
        RemixSettings(**settings),
        batch_size=32,
        held_out=frozenset(),
        build_references=_references,
    )


class AnswererContract(Contract):
    """Supply a fixture ``answerer``, an ``AnswererStrategy``. It is run on a tiny random model with 20 references."""

    role: ClassVar[str] = "answerer"
    first: ClassVar[str] = "test_an_answer_for_each_question"
    ASKED = tuple(toy_questions(6, "asked"))

    def answers(self, answerer: AnswererStrategy, *asked: Sequence[Question]) -> list[list[Answer]]:
        """Of each of several batches, by one that is made anew; whatever it does to the model is undone."""
        before = _weights()
        try:
            made = answerer.prepare(toy_context())
            return [made.answer(list(batch)) for batch in asked]
        finally:
            _model().model.load_state_dict(before)

    def test_identity(self, answerer: AnswererStrategy) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold.
        """
        check_identity("answerer", answerer)

    def test_an_answer_for_each_question(self, answerer: AnswererStrategy) -> None:
        """Each question gets an ``Answer``, in order: a choice, a finite score an option, and what it cost.

        ``context.plain(questions)`` gives the model's own answers with ``base_flops``; ``replace`` what differs.
        """
        (answers,) = self.answers(answerer, self.ASKED)
        expect(len(answers) == len(self.ASKED), f"{len(self.ASKED)} answers", len(answers))
        for question, answer in zip(self.ASKED, answers, strict=True):
            options = len(question.choices)
            expect(answer.choice in range(options), f"a choice below {options}", answer.choice)
            expect(len(answer.scores) == options, f"{options} scores", len(answer.scores))
            expect(all(map(math.isfinite, answer.scores)), "finite scores", answer.scores)
            expect(len(answer.base_scores) in (0, options), f"{options} base scores or none", len(answer.base_scores))
            expect(answer.base_flops > 0, "base_flops above zero", answer.base_flops)
            expect(0 <= answer.cost.total < math.inf, "a finite cost", answer.cost.total)

    def test_deterministic(self, answerer: AnswererStrategy) -> None:
        """The same questions get the same scores.

        Seed what is drawn by ``context.settings.seed`` and the question's id.
        """
        (one,), (other,) = (self.answers(answerer, self.ASKED) for _ in range(2))
        expect([a.scores for a in one] == [a.scores for a in other], "the same scores twice", "others")

    def test_batch_equals_one_by_one(self, answerer: AnswererStrategy) -> None:
        """A question's scores do not depend on the others of its batch.

        Keep nothing from one question to the next, and mask what pads.
        """
        together, *alone = self.answers(answerer, self.ASKED, *([question] for question in self.ASKED))
        for question, a, (b,) in zip(self.ASKED, together, alone, strict=True):
            off = max(abs(x - y) for x, y in zip(a.scores, b.scores, strict=True))
            expect(off <= 1e-4, f"{question.id} alone as in its batch", f"scores off by {off:.3g}")

    def test_does_not_look_at_the_label(self, answerer: AnswererStrategy) -> None:
        """The question's own answer changes nothing.

        An upper bound says so by its answerer's ``needs_label``.
        """
        not_for(not answerer.prepare(toy_context()).needs_label, UPPER_BOUND)
        unlabeled = [replace(question, answer=None) for question in self.ASKED]
        one, other = ([a.scores for a in found] for found in self.answers(answerer, self.ASKED, unlabeled))
        expect(one == other, "the same scores whether a label is known or not", "others")

    def test_leaves_the_model_as_it_was(self, answerer: AnswererStrategy) -> None:
        """Parameters, buffers and hooks of the model are as before, bit for bit.

        Change the model within ``try: … finally:`` that changes it back.
        """
        model = _model().model
        before = _weights()
        answerer.prepare(toy_context()).answer(list(self.ASKED))
        after = model.state_dict()
        expect(before.keys() == after.keys(), "the same tensors in the model", sorted(before.keys() ^ after.keys()))
        changed = [name for name in before if not torch.equal(before[name], after[name])]
        model.load_state_dict(before)
        expect(not changed, "the model's tensors as they were, bit for bit", ", ".join(changed))
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        expect(not hooked, "no hook left in the model", "some")

    def test_says_what_it_is(self, answerer: AnswererStrategy) -> None:
        """``calibrates`` and ``positive`` are True or False, and ``changes(strategies)`` is a word of ``Changes``.

        By these it counts as a calibration, or as a control that has to gain, in every table.
        """
        for name in ("calibrates", "positive"):
            expect(isinstance(getattr(answerer, name), bool), f"{name} to be True or False", getattr(answerer, name))
        changes = answerer.changes(toy_context().strategies)
        expect(changes in get_args(Changes), f"changes among {', '.join(get_args(Changes))}", repr(changes))

    def test_used_names_roles_and_settings(self, answerer: AnswererStrategy) -> None:
        """``used(strategies)`` names roles and settings that exist: they identify the arm in results.

        Roles are optimizer, kernel, retriever and selector; settings are those of ``RemixSettings``.
        """
        known = {"optimizer", "kernel", "retriever", "selector", *RemixSettings.model_fields}
        unknown = set(answerer.used(toy_context().strategies)) - known
        expect(not unknown, f"names among {', '.join(sorted(known))}", ", ".join(sorted(unknown)))
