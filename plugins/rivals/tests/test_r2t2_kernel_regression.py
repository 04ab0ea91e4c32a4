"""R2-T2's kernel regression as a plugin: the bisection finds what the neighbours' loss asks for."""

from dataclasses import replace

import torch
from c3po_rivals.r2t2_kernel_regression import R2T2KernelRegression

from c3po_adaptive.optimizers import KernelRegression
from c3po_adaptive.testing import toy_problem


def asking_for(problem, alpha):
    """The problem with a loss whose minimum is at ``alpha [B]`` of the way back, and where that is."""
    mean = KernelRegression(alpha=0).optimize(problem)
    share = torch.tensor(alpha)[:, None, None]
    goal = share * problem.own + (1 - share) * mean
    return replace(problem, loss=lambda weights, running=None: (weights - goal).square().sum((1, 2))), goal


def test_finds_each_samples_own_alpha():
    problem, goal = asking_for(toy_problem(), [0.3, 0.8, 0.55])
    omega = R2T2KernelRegression(steps=16).optimize(problem)
    torch.testing.assert_close(omega, goal, atol=1e-4, rtol=0)


def test_each_step_halves_the_interval():
    """Of a minimum at α = 0.3 the middles are 1/2, 1/4, 3/8, 5/16, …"""
    problem, _ = asking_for(toy_problem(), [0.3, 0.3, 0.3])
    mean = KernelRegression(alpha=0).optimize(problem)
    for steps, alpha in enumerate((0.5, 0.25, 0.25, 0.3125), 1):
        expected = alpha * problem.own + (1 - alpha) * mean
        torch.testing.assert_close(R2T2KernelRegression(steps=steps).optimize(problem), expected)


def test_stays_where_the_neighbours_ask_for_it():
    problem, _ = asking_for(toy_problem(), [1.0, 0.4, 1.0])
    omega = R2T2KernelRegression().optimize(problem)
    assert torch.equal(omega[[0, 2]], problem.own[[0, 2]])
    assert not torch.equal(omega[1], problem.own[1])


def test_never_raises_the_neighbours_loss():
    """Not even one of several minima."""
    problem = toy_problem()
    mean = KernelRegression(alpha=0).optimize(problem)
    length = (problem.own - mean).square().sum((1, 2))

    def waves(weights, running=None):
        alpha = ((weights - mean) * (problem.own - mean)).sum((1, 2)) / length
        return (12 * alpha).cos() - 0.5 * alpha

    hilly = replace(problem, loss=waves)
    for steps in range(1, 7):
        omega = R2T2KernelRegression(steps=steps).optimize(hilly)
        assert (waves(omega) <= waves(problem.own) + 1e-6).all()
