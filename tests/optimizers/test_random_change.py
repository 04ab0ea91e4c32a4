"""As far as another optimizer, layer by layer, and nowhere in particular."""

import pytest
import torch

from c3po_adaptive.errors import SettingError
from c3po_adaptive.optimizers import NGD, Constant, KernelRegression, ModeFinding, NoStep, Oracle, RandomChange
from c3po_adaptive.registry import default_registry
from c3po_adaptive.testing import toy_problem

OTHERS = [NGD(lr=0.1), KernelRegression(alpha=0.5), ModeFinding(), NoStep(), NoStep("core"), Oracle()]


def lengths(weights, problem):
    return (weights - problem.own).norm(dim=-1)


@pytest.mark.parametrize("lr", [1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_goes_as_far_in_every_layer(lr, seed):
    """Also where the wrapped one goes all the way to one expert."""
    problem, of = toy_problem(B=6, seed=seed), NGD(lr=lr)
    wanted, got = (lengths(optimizer.optimize(problem), problem) for optimizer in (of, RandomChange(of)))
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)
    assert (wanted[:, -2:] > 0).all()


def test_goes_anywhere():
    """Among the experts in use, which rise and fall, as often the way of the wrapped one as another."""
    problem, of = toy_problem(B=60, core=4), NGD(lr=3e-3)
    one, other = ((o.optimize(problem) - problem.own)[:, -2:].flatten(1) for o in (of, RandomChange(of)))
    cosine = torch.cosine_similarity(one, other, dim=1)
    assert cosine.mean().abs() < 0.15
    assert cosine.std() > 0.3


def test_changes_nothing_where_the_wrapped_one_changes_nothing():
    problem = toy_problem()
    assert torch.equal(RandomChange(NGD(steps=0)).optimize(problem), problem.own)


def test_needs_what_the_wrapped_one_needs():
    for of in [*OTHERS, Constant()]:
        wrapped = RandomChange(of)
        for name in ("needs_neighbours", "needs_label", "searches_pathways", "references_needed"):
            assert getattr(wrapped, name) == getattr(of, name)


def test_is_made_by_name():
    made = default_registry().create("optimizer", {"name": "random-change", "of": {"name": "constant", "lr": 0.1}})
    assert made == RandomChange(Constant(lr=0.1))
    with pytest.raises(SettingError, match=r"random-change\.of to be a PathwayOptimizer"):
        RandomChange("ngd")
