"""What plugins are given is theirs to read: what one writes into it changes no other arm's answers."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from remixing.test_remixer import remixer
from routing.naive import routed_model
from routing.toys import HashEmbedder, questions

from c3po_adaptive.errors import PluginError
from c3po_adaptive.optimizers import NGD, KernelRegression, PathwayOptimizer
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.retrievers import Retriever
from c3po_adaptive.selectors import Fixed, LayerSelector

ASKED = questions(5, "t")


def scribble(problem):
    """Into every tensor, as torch and as numpy."""
    near = problem.neighbours
    own = [problem.own, problem.router, problem.neighbour_pathways, problem.reference_pathways]
    for tensor in (*own, near.index, near.similarity, near.weight):
        tensor.zero_()
        tensor.numpy()[...] = 1
    if problem.selection is not None:
        problem.selection.mask.fill_(True)


@dataclass(frozen=True)
class WritingOptimizer(PathwayOptimizer):
    """Writes, and changes nothing else."""

    name: ClassVar[str] = "writing"

    def optimize(self, problem):
        own = problem.own.clone()
        scribble(problem)
        return own


@dataclass(frozen=True)
class WritingSelector(LayerSelector):
    """Chooses as the fixed one does, and writes."""

    name: ClassVar[str] = "writing"

    def select(self, problem):
        chosen = Fixed(n=2, experts=6).select(problem)
        scribble(problem)
        return chosen


@dataclass(frozen=True)
class WritingRetriever(Retriever):
    """Writes into what it is fitted to."""

    name: ClassVar[str] = "writing"

    def fit_kept(self, vectors, folder):
        return self.fit(vectors)

    def fit(self, vectors):
        vectors[...] = 0


@pytest.fixture
def place():
    model = routed_model("olmoe")
    return {"model": model, "references": build_reference_set(model, questions(24), HashEmbedder())}


@pytest.mark.parametrize(
    "writing",
    [{"optimizer": WritingOptimizer()}, {"selector": WritingSelector(), "optimizer": NGD(steps=1)}],
    ids=["optimizer", "selector"],
)
def test_later_arms_answer_as_before(place, writing):
    fixed = {"selector": Fixed(n=2, experts=6)}
    reader = remixer(**place, **fixed, optimizer=KernelRegression())
    before = [a.scores for a in reader.answer(ASKED)]
    kept = {name: getattr(place["references"], name).clone() for name in ("embeddings", "pathways")}
    remixer(**place, **(fixed | writing)).answer(ASKED)
    for name, tensor in kept.items():
        assert torch.equal(getattr(place["references"], name), tensor)
    assert [a.scores for a in reader.answer(ASKED)] == before
    again = remixer(**place, **fixed, optimizer=KernelRegression())
    assert [a.scores for a in again.answer(ASKED)] == before


def test_what_is_written_into_own_does_not_become_the_answer(place):
    plain = remixer(**place, optimizer=NGD(steps=0), selector=Fixed(n=2, experts=6)).answer(ASKED)
    written = remixer(**place, optimizer=WritingOptimizer(), selector=Fixed(n=2, experts=6)).answer(ASKED)
    assert [a.scores for a in written] == [a.scores for a in plain]


def test_embeddings_cannot_be_written(place):
    with pytest.raises(PluginError, match=r"retriever 'writing'.*read-only"):
        remixer(**place, optimizer=NGD(steps=1), retriever=WritingRetriever(), selector=Fixed(n=2, experts=6))
