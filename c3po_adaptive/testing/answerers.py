"""The contract of answerers, and a bench to run it on: a tiny random model, and questions of some words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ..answerers.base import AnswererStrategy, Bench
from ..models.routed import RoutedModel
from ..models.tiny import tiny_moe, tiny_tokenizer
from ..references.build import build_reference_set
from ..references.embedding import Embedder
from ..references.reference_set import ReferenceSet
from ..registry import default_registry
from ..settings import RemixSettings
from ..tasks.formats import as_format
from ..types import Answer, Question
from .contract import Contract, check_identity

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
    return RoutedModel(tiny_moe("olmoe"), tiny_tokenizer(), name="tiny")


@cache
def _references() -> ReferenceSet:
    return build_reference_set(_model(), toy_questions(20, "references"), cast(Embedder, ToyEmbedder()))


def toy_bench(**settings: Any) -> Bench:
    """A bench with 20 references, and strategies that fit the tiny model; ``settings`` of re-mixing."""
    specs = {"optimizer": {"name": "ngd", "steps": 2}, "kernel": "gaussian", "retriever": "faiss-knn"}
    return Bench(
        _model(),
        default_registry().strategies(specs | {"selector": {"name": "fixed", "n": 2, "experts": 5}}),
        cast(Embedder, ToyEmbedder()),
        as_format("cloze"),
        RemixSettings(**settings),
        batch_size=32,
        held_out=frozenset(),
        build_references=_references,
    )


class AnswererContract(Contract):
    """Supply a fixture ``answerer``, an ``AnswererStrategy``."""

    ASKED = tuple(toy_questions(6, "asked"))

    def answers(self, answerer: AnswererStrategy, asked: Sequence[Question] = ASKED) -> list[Answer]:
        """Of questions, by one that is made anew."""
        return answerer.prepare(toy_bench()).answer(list(asked))

    def test_identity(self, answerer: AnswererStrategy) -> None:
        check_identity("answerer", answerer)

    def test_an_answer_for_each_question(self, answerer: AnswererStrategy) -> None:
        answers = self.answers(answerer)
        assert len(answers) == len(self.ASKED)
        for question, answer in zip(self.ASKED, answers, strict=True):
            assert answer.choice in range(len(question.choices))
            assert len(answer.scores) == len(question.choices)
            assert all(map(math.isfinite, answer.scores))
            assert len(answer.base_scores) in (0, len(question.choices))
            assert answer.base_flops > 0
            assert 0 <= answer.cost.total < math.inf

    def test_deterministic(self, answerer: AnswererStrategy) -> None:
        one, other = (self.answers(answerer) for _ in range(2))
        assert [a.scores for a in one] == [a.scores for a in other]

    def test_batch_equals_one_by_one(self, answerer: AnswererStrategy) -> None:
        together = self.answers(answerer)
        ready = answerer.prepare(toy_bench())
        alone = [ready.answer([question])[0] for question in self.ASKED]
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(torch.tensor(a.scores), torch.tensor(b.scores), atol=1e-4, rtol=0)

    def test_does_not_look_at_the_label(self, answerer: AnswererStrategy) -> None:
        if answerer.prepare(toy_bench()).needs_label:
            pytest.skip("an upper bound, declared as one")
        unlabeled = [replace(question, answer=None) for question in self.ASKED]
        assert [a.scores for a in self.answers(answerer, unlabeled)] == [a.scores for a in self.answers(answerer)]

    def test_leaves_the_model_as_it_was(self, answerer: AnswererStrategy) -> None:
        model = _model().model
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.answers(answerer)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before), "bit for bit"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()), "no hook is left"

    def test_used_names_roles_and_settings(self, answerer: AnswererStrategy) -> None:
        known = {"optimizer", "kernel", "retriever", "selector", *RemixSettings.model_fields}
        assert set(answerer.used(toy_bench().strategies)) <= known
