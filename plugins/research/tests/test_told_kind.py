"""One change a kind, told: each kind's questions are answered as if there were no other references."""

from dataclasses import replace

import pytest
import torch
from c3po_research.told_kind import ToldKind

from c3po_adaptive.answerers import Remix
from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import ConstantIntegratedStep
from c3po_adaptive.testing import toy_context
from c3po_adaptive.testing.answerers import toy_questions

ASKED = [replace(question, subject="ab"[i % 2]) for i, question in enumerate(toy_questions(5, "asked"))]


@pytest.fixture
def context():
    """Of references of two kinds, seven and thirteen."""
    toy = toy_context(learn_from="all")
    kinds = tuple(replace(q, subject="a" if i < 7 else "b") for i, q in enumerate(toy.references.questions))
    references = replace(toy.references, questions=kinds)
    return replace(toy, strategies=replace(toy.strategies, optimizer=ConstantIntegratedStep(lr=20)),
                   build_references=lambda: references)  # fmt: skip


def test_each_kind_is_answered_as_if_its_references_were_all(context):
    found = ToldKind().prepare(context).answer(ASKED)
    known = context.references
    for kind in "ab":
        rows = torch.tensor([i for i, q in enumerate(known.questions) if q.subject == kind])
        alone = replace(context, build_references=lambda rows=rows: known.subset(rows))
        answers = Remix().prepare(alone).answer([q for q in ASKED if q.subject == kind])
        own = [answer for answer, question in zip(found, ASKED, strict=True) if question.subject == kind]
        assert [answer.scores for answer in own] == [answer.scores for answer in answers]
    for_all = Remix().prepare(context).answer(ASKED)
    assert [answer.scores for answer in found] != [answer.scores for answer in for_all]


def test_what_all_kinds_take_once_is_counted_once(context):
    told, for_all = (answerer.prepare(context).answer(ASKED) for answerer in (ToldKind(), Remix()))
    for answer in told:  # but that references of one kind are longer than those of another
        assert answer.setup_flops == pytest.approx(for_all[0].setup_flops, rel=0.1)


def test_refuses_neighbours_and_kinds_that_nobody_told(context):
    told = ToldKind()
    strategies = toy_context().strategies
    with pytest.raises(SettingError, match="need no neighbours, got ngd"):
        told.fits(strategies, (0, 1), 8, 20)
    with pytest.raises(SettingError, match="need no neighbours, got ngd"):
        told.prepare(replace(context, strategies=strategies))
    with pytest.raises(SettingError, match=r"'c' for 'asked0'"):
        told.prepare(context).answer([replace(ASKED[0], subject="c")])
