"""Which references help: learned from gradients, and told from what only seems to be there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from c3po_research.transfer import Transfer, TransferNeighbours

from c3po_adaptive.answerers import Remix
from c3po_adaptive.errors import SettingError, ShapeError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.kernels.base import QuestionFeatures, ReferenceFeatures
from c3po_adaptive.optimizers import AmortizedNGD
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.testing import toy_context, toy_references
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(4, "asked")


def kinds(state):
    """What is known of questions whose state's first number is as given."""
    known = np.zeros((len(state), 5))
    known[:, 0] = state
    return QuestionFeatures(
        np.ones((len(state), 3)), {"state": known[:, :3], "pathway": known[:, 3:4], "form": known[:, 4:]}
    )


def test_it_finds_whom_a_question_can_learn_from():
    kernel = Transfer().prepare(toy_references(5))
    values = kernel.between(kinds([1.0, -1.0]), kinds([1.0, 1.0, -1.0]))
    assert (values[0, :2] > 0).all() and values[0, 2] < 0 and values[1, 2] > 0
    assert kernel.learned.held_out > 0.5


def test_rank_zero_is_what_remains_where_nothing_can_be_predicted():
    """The control, and references whose kinds tell nothing: one value for all pairs, most of the time."""
    ranks = []
    for seed in range(5):
        for told, kernel in ((True, Transfer(shuffled=True)), (False, Transfer())):
            ranks.append(kernel.prepare(toy_references(5, seed=seed, told=told)).learned.axes.shape[1])
    assert ranks.count(0) >= 7


def test_it_reads_only_what_it_is_told_to():
    lessons = toy_references(5)
    blind = Transfer(reads=("form",)).prepare(lessons)
    assert blind.learned.held_out < Transfer().prepare(lessons).learned.held_out
    other = kinds([1.0])
    other.known["state"] = other.known["state"] * 100
    np.testing.assert_allclose(blind.between(other, kinds([1.0])), blind.between(kinds([1.0]), kinds([1.0])))


def test_sums_and_products_see_both():
    both = (Gaussian() * Transfer() + Transfer()).prepare(toy_references(5))
    x, y = kinds([1.0, -1.0]), kinds([1.0])
    learned = Transfer().prepare(toy_references(5)).between(x, y)
    np.testing.assert_allclose(both.between(x, y), Gaussian()(x.text, y.text) * learned + learned)
    assert both.learns and not (Gaussian() + Gaussian()).learns


def test_the_retriever_takes_those_that_help():
    retriever = TransferNeighbours(k=2).prepare(toy_references(5))
    index = retriever.fit(retriever.sees(kinds([1.0, -1.0, 0.9, -0.9])))
    hits = index.search(retriever.sees(kinds([2.0, -2.0])))
    assert [set(row) for row in hits.index.tolist()] == [{0, 2}, {1, 3}]


def remixer(kernel=None, retriever=None, **settings):
    context = toy_context(**{"learn_from": "all", "max_similarity": 1.0} | settings)
    strategies = replace(
        context.strategies,
        optimizer=AmortizedNGD(steps=2, lr=0.1),
        kernel=kernel or Gaussian(),
        retriever=retriever or FaissKNN(k=20),
    )
    return Remix().prepare(replace(context, strategies=strategies))


@pytest.mark.parametrize(
    "parts", [{"kernel": Transfer()}, {"retriever": TransferNeighbours(k=5)}, {"kernel": Gaussian() + Transfer(rank=2)}]
)
def test_a_run_teaches_it(parts):
    plain, run = remixer(), remixer(**parts)
    answers = run.answer(ASKED)
    assert all(answer.neighbours for answer in answers)
    again = remixer(**parts).answer(ASKED[2:])
    for one, other in zip(answers[2:], again, strict=True):
        assert [id_ for id_, _, _ in one.neighbours] == [id_ for id_, _, _ in other.neighbours]
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    assert run.setup_flops > plain.setup_flops, "what is kept of references to learn from is paid for"


def test_a_reference_is_not_its_own_neighbour_and_near_texts_are_left_out():
    run = remixer(retriever=TransferNeighbours(k=50))
    asked = run.references.questions[3]
    (answer,) = run.answer([asked])
    assert asked.id not in [id_ for id_, _, _ in answer.neighbours]
    close = remixer(retriever=TransferNeighbours(k=50), max_similarity=0.3)
    similar = close.candidates.vectors @ close.embedder.encode([ASKED[0].question]).T
    (answer,) = close.answer(ASKED[:1])
    near = {close.candidates.questions[row].id for row in np.flatnonzero(similar > 0.3)}
    assert near.isdisjoint(id_ for id_, _, _ in answer.neighbours)


def test_where_nothing_can_be_predicted_neighbours_are_drawn():
    retriever = TransferNeighbours(k=3, rank=0).prepare(toy_references(5))
    index = retriever.fit(retriever.sees(kinds(np.linspace(-1, 1, 30))))
    queries = retriever.sees(kinds([1.0, -1.0, 0.5]))
    hits = index.search(queries, keys=[1, 2, 3]).index.tolist()
    assert len({tuple(sorted(row)) for row in hits}) == 3
    assert hits == index.search(queries, keys=[1, 2, 3]).index.tolist()


def test_baselines_that_go_by_texts_refuse_it():
    context = toy_context(learn_from="all")
    context = replace(context, strategies=replace(context.strategies, retriever=TransferNeighbours()))
    for found in (context.nearest, context.neighbours):
        with pytest.raises(SettingError, match="a retriever that goes by texts"):
            found(ASKED)
    context = replace(context, strategies=replace(toy_context().strategies, kernel=Transfer()))
    with pytest.raises(SettingError, match="a kernel that goes by texts, got transfer"):
        context.neighbours(ASKED)


def test_its_answers_to_references_are_flattered():
    strategies = toy_context().strategies
    assert not Remix().learns(strategies)
    assert Remix().learns(replace(strategies, kernel=Transfer()))


def test_it_says_when_it_has_not_learned():
    with pytest.raises(SettingError, match="references to learn from"):
        Transfer()(np.zeros((1, 3)), np.zeros((1, 3)))
    with pytest.raises(SettingError, match="20 references"):
        Transfer().prepare(toy_references(5, n=10))


def test_what_it_did_not_learn_from_is_refused():
    with pytest.raises(ShapeError, match=r"\(n, 5\)"):
        Transfer().prepare(toy_references(5)).placed(np.zeros((2, 4)))


def test_gradients_are_on_the_tangent():
    run = remixer(kernel=Transfer())
    lessons = run.training.features(run.candidates.vectors)
    assert isinstance(lessons, ReferenceFeatures)
    assert torch.from_numpy(lessons.gradients).sum(-1).abs().max() < 1e-4
