"""SteerMoE as a plugin: which experts tell right answers from wrong ones, and what switching them on or off does."""

from dataclasses import replace

import pytest
import torch
from c3po_rivals.steermoe import SteerMoE, risk_difference
from remixing.test_remixer import remixer
from routing.toys import questions, reference_set

from c3po_adaptive.errors import DataError
from c3po_adaptive.selectors.fixed import Fixed
from c3po_adaptive.testing import ToyTraining, altered, toy_problem

EVERYWHERE = Fixed(layers="all", experts=None)


def steering(difference, **settings):
    return SteerMoE(learned={"difference": difference}, **settings)


@pytest.fixture
def problem():
    """All layers and experts may change."""
    problem = toy_problem(selected=None)
    return replace(problem, selection=EVERYWHERE.select(problem))


def differences(**experts):
    """``[6, 24]`` zero but for those named ``l<layer>e<expert>``."""
    made = torch.zeros(6, 24)
    for name, value in experts.items():
        layer, expert = map(int, name[1:].split("e"))
        made[layer, expert] = value
    return made


def test_risk_difference_is_that_of_the_rates():
    used = torch.tensor([[[1, 1, 0]], [[1, 0, 1]], [[0, 1, 1]], [[0, 1, 1]], [[1, 1, 0]]]).bool()
    right = torch.tensor([True, True, False, False, False])
    expected = torch.tensor([[2 / 2 - 1 / 3, 1 / 2 - 3 / 3, 1 / 2 - 2 / 3]])
    torch.testing.assert_close(risk_difference(used, right), expected)


def test_learns_it_from_right_and_wrong_answers():
    """In references that are answered right expert 3 of layer 2 is used, in those answered wrong never."""

    def made(problem):
        right = problem.own_scores.argmax(-1) == problem.answers
        used = problem.used.clone()
        used[:, 2, 3] = right
        return altered(problem, used=used)

    learned = SteerMoE(training=100).prepare(ToyTraining(made=made)).learned["difference"]
    assert learned[2, 3] == 1.0
    assert (learned.abs() <= 1).all()


def test_switched_off_expert_gives_way_to_the_next(problem):
    first, fifth = problem.router[0, 4].topk(5).indices[[0, 4]].tolist()
    omega = steering(differences(**{f"l4e{first}": -0.5}), off=1).optimize(problem)
    assert omega[0, 4, first] == 0
    assert omega[0, 4, fifth] > 0
    used = omega[0, 4] > 0
    assert used.sum() == 4
    share = omega[0, 4, used] / omega[0, 4].sum()
    torch.testing.assert_close(share, problem.router[0, 4, used] / problem.router[0, 4, used].sum())


def test_switched_on_expert_is_the_largest_by_the_margin(problem):
    last = int(problem.router[0, 4].argmin())
    omega = steering(differences(**{f"l4e{last}": 0.5}), off=0, on=1).optimize(problem)
    assert omega[0, 4].argmax() == last
    second = omega[0, 4].topk(2).values[1]
    torch.testing.assert_close((omega[0, 4, last] / second).log(), torch.tensor(0.01), atol=1e-4, rtol=0)


def test_nothing_else_changes(problem):
    """A layer none of whose experts is steered, and one where those that are switched off are not used anyway."""
    unused = int(problem.router[0, 4].argmin())
    omega = steering(differences(**{f"l4e{unused}": -0.5}), off=1).optimize(problem)
    still = torch.ones(3, 6, dtype=torch.bool)
    still[:, 4] = problem.own[:, 4, unused] == 0
    assert torch.equal(omega[still], problem.own[still])
    assert torch.equal(omega[0], problem.own[0])


def test_is_one_change_for_all_questions(problem):
    first = problem.router[:, 4].argmax(-1).tolist()
    off = differences(**{f"l4e{e}": -0.5 for e in first})
    omega = steering(off, off=3).optimize(problem)
    for expert in first:
        assert (omega[:, 4, expert] == 0).all()


def test_the_greatest_differences_are_steered():
    difference = differences(l0e0=-0.9, l1e1=-0.8, l2e2=-0.7, l3e3=0.6, l4e4=0.95)
    on, off = steering(difference, off=2, on=1)._steered(difference, 4)
    assert off.nonzero().tolist() == [[0, 0], [1, 1]]
    assert on.nonzero().tolist() == [[4, 4]]
    on, off = steering(difference, off=50, on=50)._steered(difference, 4)
    assert (int(off.sum()), int(on.sum())) == (3, 2), "no more than have a difference of that sign"


def test_no_layer_has_more_on_than_it_uses(problem):
    difference = differences(**{f"l4e{e}": 0.9 - e / 100 for e in range(9)})
    optimizer = steering(difference, off=0, on=9)
    assert optimizer._steered(difference, 4)[0].nonzero().tolist() == [[4, 0], [4, 1], [4, 2], [4, 3]]
    assert ((optimizer.optimize(problem)[:, 4] > 0).sum(-1) == 4).all()


def test_answers_at_the_price_of_one_pass_of_the_tail():
    """Nothing is retrieved, embedded or optimized: what was learned belongs to the set."""
    c3po = remixer(optimizer=SteerMoE(training=16, on=8), selector=EVERYWHERE)
    answers = c3po.answer(questions(4, "t"))
    for answer in answers:
        assert answer.cost.total == answer.cost.prefill + answer.cost.answer
        assert answer.neighbours == ()
    assert any(answer.experts for answer in answers)


def test_references_of_random_labels_steer_others():
    """The control: who was right is drawn at random."""
    optimizer = SteerMoE(training=16)
    own, shuffled = (
        remixer(optimizer=optimizer, selector=EVERYWHERE, labels=labels).strategies.optimizer.learned["difference"]
        for labels in ("own", "shuffled")
    )
    assert not torch.equal(own, shuffled)


def test_what_was_learned_is_kept_with_the_set(tmp_path):
    from c3po_adaptive.references.reference_set import ReferenceSet

    folder = reference_set("olmoe").save(tmp_path / "set")
    optimizer = SteerMoE(training=16)
    first, again = (
        remixer(references=ReferenceSet.load(folder), optimizer=optimizer, selector=EVERYWHERE) for _ in range(2)
    )
    assert len(list(folder.glob("learned/*.safetensors"))) == 1
    learned = [c3po.strategies.optimizer.learned["difference"] for c3po in (first, again)]
    assert torch.equal(*learned)


def test_references_all_right_tell_nothing():
    with pytest.raises(DataError, match="answers right and others that it answers wrong, got 3 right of 3"):
        risk_difference(torch.ones(3, 1, 2).bool(), torch.ones(3).bool())
