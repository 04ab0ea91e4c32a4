"""The expert that answers a question's neighbours best, by itself."""

from dataclasses import replace

import pytest
import torch
from c3po_research.neighbours_expert import FLOPS, Alone, NeighboursExpert

from c3po_adaptive import default_registry
from c3po_adaptive.testing import AnswererContract, toy_context
from c3po_adaptive.testing.answerers import toy_questions


class TestContract(AnswererContract):
    @pytest.fixture
    def answerer(self):
        return NeighboursExpert(tried=8)


@pytest.fixture
def context():
    return toy_context(learn_from="all")


def test_a_question_is_answered_by_the_expert_of_least_loss_on_its_neighbours(context):
    asked = toy_questions(4, "asked")
    model, known = context.model, context.references.questions
    prompts = context.prompts(known)
    losses = torch.stack(
        [
            torch.stack([-one.scores().log_softmax(-1)[q.answer] for one, q in zip(along, known, strict=True)])
            for along in (model.ruled(prompts, Alone(torch.full((len(known),), e))) for e in range(model.n_experts))
        ],
        1,
    )
    rows, found = {q.id: row for row, q in enumerate(known)}, NeighboursExpert(tried=1000).prepare(context)
    experts = set()
    for question, near, answer in zip(asked, context.nearest(asked), found.answer(asked), strict=True):
        best = losses[[rows[q.id] for q, _ in near]].mean(0).argmin()
        (alone,) = model.ruled(context.prompts([question]), Alone(best[None]))
        assert answer.scores == pytest.approx(alone.scores().tolist(), abs=1e-5)
        assert answer.setup_flops == float(found.found[FLOPS]) > 0
        assert [name for name, _, _ in answer.neighbours] == [q.id for q, _ in near], "a verdict counts them"
        experts.add(int(best))
    assert len(experts) > 1, "the questions do not tell experts apart"


def test_where_no_neighbour_was_tried_all_that_were_have_a_say(context):
    found = NeighboursExpert(tried=1).prepare(context)
    assert found._expert([]) == found._expert(["nobody"]) == int(found.found["losses"][0].argmin())


def test_questions_that_are_asked_are_not_tried(context):
    held_out = frozenset(q.id for q in context.references.questions[:5])
    found = NeighboursExpert().prepare(replace(context, held_out=held_out))
    assert len(found.tried) == len(context.references.questions) - 5 and not held_out & {*found.tried}


def test_experts_are_tried_once_for_all_numbers_of_neighbours(context, monkeypatch):
    first = NeighboursExpert(tried=4).prepare(context)
    monkeypatch.setattr(NeighboursExpert, "_try", None)  # would raise if it were called
    more = replace(context.strategies, retriever=replace(context.strategies.retriever, k=9))
    again = NeighboursExpert(tried=4).prepare(
        replace(context, strategies=more, build_references=lambda: context.references)
    )
    assert again.tried == first.tried


def test_it_comes_by_its_entry_point():
    assert default_registry().create("answerer", {"name": "neighbours-expert", "tried": 3}) == NeighboursExpert(tried=3)
