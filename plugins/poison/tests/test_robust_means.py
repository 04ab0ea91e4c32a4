"""Means that few can sway, by hand, and against one reference that would have its way."""

from dataclasses import replace

import pytest
import torch
from c3po_poison.robust_means import Agreeing, MedianOfMeans, lent

from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import NGD, ConstantIntegratedStep, IntegratedStep, KernelRegression, Oracle
from c3po_adaptive.testing import ToyTraining, toy_problem
from c3po_adaptive.types import Neighbours


def test_groups_are_dealt_in_turn_and_their_means_weighed():
    each = torch.tensor([[1.0, 10.0, 3.0, 20.0, 100.0]])[..., None, None]
    weight = torch.tensor([[0.1, 0.2, 0.3, 0.2, 0.2]])
    means = [(0.1 * 1 + 0.3 * 3 + 0.2 * 100) / 0.6, (0.2 * 10 + 0.2 * 20) / 0.4]  # of 1, 3, 100 and of 10, 20
    torch.testing.assert_close(lent(each, weight, MedianOfMeans(groups=2).mean), torch.full_like(each, sum(means) / 2))


def test_groups_without_weight_have_no_say_and_padding_stays_zero():
    each, weight = torch.tensor([[5.0, 7.0, 0.0]])[..., None, None], torch.tensor([[0.4, 0.6, 0.0]])
    assert lent(each, weight, MedianOfMeans().mean).flatten().tolist() == [6.0, 6.0, 0.0]
    assert lent(each, torch.zeros(1, 3), MedianOfMeans().mean).flatten().tolist() == [0.0, 0.0, 0.0]


def test_what_one_alone_says_is_noise_and_what_all_say_is_kept():
    each = torch.tensor([[[2.0, 9.0, 2.0], [2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]])
    weight = torch.tensor([[0.75, 0.25, 0.0]])
    agreed = 2 * (1 - (0.75**2 + 0.25**2))  # m² = 4, v = 4 Σ w²
    argued = 1.25 * max(0, 1 - (1.5**2 + 0.25**2) / 1.25**2)
    torch.testing.assert_close(Agreeing().mean(each, weight), torch.tensor([[agreed, 0.0, argued]]))
    assert lent(each, weight, Agreeing().mean)[0, 2].tolist() == [0, 0, 0], "padding stays zero"
    assert Agreeing().mean(each, torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def hijacked(problem, strength):
    """The first neighbour weighs four fifths, and teaches something else so strongly."""
    weight = problem.neighbours.weight.clone() * 0.2
    weight[:, 0] += 0.8
    near = replace_weight(problem, weight)

    def of_neighbours(artifact):
        each = problem.of_neighbours(artifact).clone()
        each[:, 0, :, 0] -= strength
        return each

    return replace(problem, neighbours=near, of_neighbours=of_neighbours)


def test_one_reference_cannot_have_its_way():
    problem = toy_problem(K=10)
    moved = {}
    for optimizer in (IntegratedStep(lr=5), MedianOfMeans(of=IntegratedStep(lr=5)), Agreeing(of=IntegratedStep(lr=5))):
        before, after = (optimizer.optimize(hijacked(problem, strength)) for strength in (0.0, 50.0))
        moved[optimizer.name] = float((after - before).abs().sum())
    assert moved["median-of-means"] < 0.2 * moved["integrated-step"]
    assert moved["agreeing"] < 0.5 * moved["integrated-step"]


def test_several_that_lie_together_can_have_their_way():
    each = torch.tensor([[-50.0, -50.0, -50.0, 1.0, 1.0, 1.0, 1.0, 1.0]])[..., None]
    weight = torch.tensor([[0.27, 0.27, 0.27, *[0.038] * 5]])
    assert MedianOfMeans().mean(each, weight).item() < -40 and Agreeing().mean(each, weight).item() < -20


def test_pathways_are_shrunk_to_the_own_one_not_to_zero():
    problem = toy_problem(K=5)
    alone = replace(problem, neighbours=replace_weight(problem, torch.eye(5)[:1].expand(len(problem.own), 5)))
    moved = Agreeing(of=KernelRegression(alpha=0.5)).optimize(alone)
    torch.testing.assert_close(moved, problem.own, atol=1e-6, rtol=0)


def replace_weight(problem, weight):
    return Neighbours(problem.neighbours.index, problem.neighbours.similarity, weight)


def test_what_one_change_for_all_learns_is_a_median_too():
    plain, robust = ConstantIntegratedStep().prepare(ToyTraining()), MedianOfMeans(of=ConstantIntegratedStep())
    each = ToyTraining().of_references(ConstantIntegratedStep.taught)
    groups = torch.stack([each[group::5].mean(0) for group in range(5)])
    torch.testing.assert_close(robust.prepare(ToyTraining()).of.slope, groups.median(0).values)
    torch.testing.assert_close(plain.slope, each.mean(0))


@pytest.mark.parametrize(("given", "said"), [
    ({"of": NGD()}, "takes means of what neighbours teach, got ngd"),
    ({"of": Oracle()}, "got oracle"),
    ({"of": "integrated-step"}, "median-of-means.of to be a PathwayOptimizer"),
    ({"groups": 1}, "median-of-means.groups"),
])  # fmt: skip
def test_what_it_cannot_wrap_is_refused(given, said):
    with pytest.raises(SettingError, match=said):
        MedianOfMeans(**given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_is_taught_may_have_another_type_than_weights(dtype):
    each, weight = torch.rand(2, 5, 3, 4), torch.rand(2, 5)
    for optimizer in (MedianOfMeans(), Agreeing()):
        found = lent(each.to(dtype), weight, optimizer.mean)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), lent(each, weight, optimizer.mean), atol=1e-2, rtol=1e-2)


def test_each_is_named_in_its_own_errors():
    with pytest.raises(SettingError, match=r"agreeing\.of to be a PathwayOptimizer"):
        Agreeing(of="integrated-step")
