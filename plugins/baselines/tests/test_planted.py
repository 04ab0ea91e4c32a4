"""Planted truths, run from questions to verdicts: a gain by question, a leak of answers, a bias of lengths."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from own_plugin import By
from records.made import plain as kept
from study.configs import parse_config

from c3po_adaptive import AnswererStrategy, hookimpl
from c3po_adaptive.registry import new_registry
from c3po_adaptive.study.comparison import STUDY
from c3po_adaptive.testing import write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")

COLOURS = ("red", "blue", "green", "grey")
TOPICS = ("the tides of the sea", "how bread is baked", "the moons of Jupiter", "bees and their hives")
ASKED, KNOWN = 120, 80


def surely(context, choose):
    """Answers each question by what a function makes of it."""

    def answer(questions):
        found = []
        for question, plain in zip(questions, context.plain(questions), strict=True):
            choice = choose(question)
            scores = tuple(0.0 if i == choice else -3.0 for i in range(len(question.choices)))
            found.append(replace(plain, choice=choice, scores=scores))
        return found

    return By(answer)


@dataclass(frozen=True)
class Longest(AnswererStrategy):
    """The longest option."""

    name: ClassVar[str] = "longest"

    def prepare(self, bench):
        return surely(bench, lambda question: max(range(len(question.choices)), key=lambda i: len(question.choices[i])))


@dataclass(frozen=True)
class Leaky(AnswererStrategy):
    """The right option, which it says to learn from references, and knows from elsewhere."""

    answers: ClassVar[dict[str, int]] = {}
    name: ClassVar[str] = "leaky"

    def prepare(self, bench):
        return surely(bench, lambda question: self.answers[question.id])

    def used(self, strategies):
        return ("labels", "seed")


class Plugin:
    @hookimpl
    def register_answerers(self):
        return [Longest, Leaky]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    write_tiny_checkpoint(folder / "model", "qwen2_moe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("C3PO_CACHE", str(folder / "cache"))
        yield folder / "model"


def by_topic(i):
    """The answer follows from what a question is about, and from nothing else that can be seen."""
    topic = i % len(TOPICS)
    return {"question": f"Chapter {i} is on {TOPICS[topic]}. Its cover?", "choices": COLOURS, "answer": (topic * 3) % 4}


def by_length(i):
    """The right option has words more."""
    answer = (i * 7) % 3
    choices = [f"item {i + k}" + " of the long list there" * (k == answer) for k in range(3)]
    return {"question": f"Which of these is number {i}?", "choices": choices, "answer": answer}


def judged(tmp_path, model, ask, arms, controlled=()):
    """Rows by arm, all of them run."""
    for name, numbers in (("test", range(ASKED)), ("references", range(ASKED, ASKED + KNOWN))):
        rows = [{"id": f"{name}-{i}", **ask(i)} for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
        if name == "test":
            Leaky.answers.update({each["id"]: each["answer"] for each in rows})
    data = {"name": "planted", "questions": str(tmp_path / "test.jsonl"), "split": None}
    data |= {"references": [str(tmp_path / "references.jsonl")]}
    registry = new_registry()
    registry.register(Plugin(), "planted")
    few = {"selector": {"name": "fixed", "n": 2, "experts": 5}}  # for controls that re-mix: the model is small
    arms = {"base": {"optimizer": "none"}} | {name: few | arm for name, arm in arms.items()}
    given = {"model": str(model), "datasets": [data], "arms": arms, "learn_from": "all", "pathways": False}
    summary = kept(STUDY.run(parse_config(given | {"controlled": controlled}), tmp_path / "run", registry=registry))
    return {row["arm"]: row for row in summary["rows"]}


def test_a_gain_by_question_is_told_from_every_control(tmp_path, model):
    near = {"answerer": "knn-label", "retriever": {"name": "faiss-knn", "k": 5}}
    far = near | {"retriever": {"name": "random", "k": 5}, "control_of": ["vote"]}
    arms = {"vote": near, "vote, random neighbours": far}
    found = judged(tmp_path, model, by_topic, arms, ["vote"])["vote"]
    assert {*found["controls"]} == {
        *("vote, random neighbours", "vote, shuffled labels", "constant", "calibrated", "core mixed")
    }
    assert found["accuracy"] > 60, "of 25 by chance"
    assert found["verdict"] == "helps beyond its controls"


def test_a_leak_gains_with_any_labels(tmp_path, model):
    found = judged(tmp_path, model, by_topic, {"leak": {"answerer": "leaky"}}, ["leak"])["leak"]
    assert found["accuracy"] == 100
    assert found["verdict"] == "helps, but so does leak, shuffled labels"


def test_a_bias_of_lengths_is_what_correcting_scores_finds(tmp_path, model):
    arms = {"longest": {"answerer": "longest"}, "calibrated": {"answerer": "surface-logit", "optimizer": "none"}}
    found = judged(tmp_path, model, by_length, arms)
    assert found["longest"]["accuracy"] == 100
    assert found["longest"]["verdict"] == "helps, but so does calibrated"
