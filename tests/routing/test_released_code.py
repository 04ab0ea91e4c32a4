"""C3PO by the arithmetic of its released code (github.com/tianyi-lab/C3PO, ``last_token_routing`` and the OLMoE block),
written anew by full forward passes: what ``pathway: router`` is compared with.
"""

import math

import pytest
import torch
from remixing.test_remixer import FAMILIES, TEST, pool, problem_of, remixer
from routing.naive import choice_scores, own_routing, shared_model

from c3po_adaptive.optimizers.kernel_regression import KernelRegression
from c3po_adaptive.optimizers.ngd import NGD
from c3po_adaptive.retrievers import FaissKNN
from c3po_adaptive.selectors.fixed import Fixed

RELEASED = {"pathway": "router", "mix": "top-k", "scope": "last", "loss": "likelihood", "head": "full"}
LAYERS = (1, 2)


def distribution(model, question):
    """``[L, E]`` the softmax over all experts at the last token of the prompt."""
    return own_routing(model.model, model.encode(question).ids)[1][-1]


def top_k(model, omega, support=None, gradient="straight-through"):
    """``[E]`` the weights that the block mixes of ``omega [E]``."""
    config = model.model.config
    used = torch.zeros_like(omega, dtype=torch.bool)
    used[omega.topk(config.num_experts_per_tok).indices] = True
    if support is not None and gradient == "core":
        used = used | support
    weights = omega * used
    if support is not None:
        weights = weights + (omega - omega.detach()) * (support & ~used)
    return weights / weights.sum() if config.norm_topk_prob else weights


def written_over(model, prompt, omega, support=None, **how):
    """What the block does with the last token of a prompt."""

    def edit(layer, routing):
        if layer not in LAYERS:
            return routing
        core = None if support is None else support[layer]
        here = top_k(model, omega[layer], core, **how)
        at = len(prompt.ids) - 1
        return torch.cat([routing[:at], here[None], routing[at + 1 :]])

    return edit


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_three_neighbors_takes_the_softmaxs_place(family):
    """All experts are core experts, alpha is 0, and what is run is the top-k of the mean."""
    model, selector = shared_model(family), Fixed(layers=LAYERS, experts=None)
    remixing = remixer(
        family, optimizer=KernelRegression(alpha=0), selector=selector, retriever=FaissKNN(k=3), **RELEASED
    )
    problem = problem_of(family, selector=selector, retriever=FaissKNN(k=3), **RELEASED)
    for b, (question, answer) in enumerate(zip(TEST, remixing.answer(TEST), strict=True)):
        own = distribution(model, question)
        torch.testing.assert_close(problem.own[b], own, atol=1e-6, rtol=1e-6)
        near = [distribution(model, pool(family).questions[row]) for row in problem.neighbours.index[b]]
        shares = problem.neighbours.weight[b]
        mean = sum(share * one for share, one in zip(shares, near, strict=True)) / shares.sum()
        torch.testing.assert_close(mean.sum(-1), torch.ones(len(mean)))
        rows = list(LAYERS)
        torch.testing.assert_close(answer.pathway.router[rows], mean[rows], atol=1e-6, rtol=1e-6)
        run = torch.stack([top_k(model, mean[layer]) for layer in LAYERS])
        assert torch.equal(answer.pathway.weights[rows] > 0, run > 0)
        torch.testing.assert_close(answer.pathway.weights[rows], run, atol=1e-6, rtol=1e-6)
        prompt = model.encode(question)
        with torch.no_grad():
            scores = choice_scores(model.model, prompt, written_over(model, prompt, mean))
        torch.testing.assert_close(torch.tensor(answer.scores), scores, atol=1e-5, rtol=0)


def tangent(slope, omega, core):
    """Of one layer: no mass is gained, and an expert at zero does not fall."""
    able = core.nonzero().flatten().tolist()
    found = torch.zeros_like(slope)
    while able:
        found[:] = 0
        found[able] = slope[able] - slope[able].mean()
        kept = [e for e in able if omega[e] > 1e-7 or found[e] <= 0]
        if kept == able:
            break
        able = kept
    return found


def projected(moved, own, core):
    """Of one layer: the nearest vector that is not negative and keeps the mass of the core, by bisection."""
    found, total, values = own.clone(), own[core].double().sum(), moved[core].double()
    low, high = -torch.ones(()).double(), torch.ones(()).double()
    for _ in range(60):
        shift = (low + high) / 2
        over = (values - shift).clamp_min(0).sum() > total
        low, high = (shift, high) if over else (low, shift)
    found[core] = (values - shift).clamp_min(0).float()
    return found


@pytest.mark.parametrize("gradient", ["straight-through", "core"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ten_steps_of_descent_are_those_of_full_forwards(family, gradient):
    model, selector, steps = shared_model(family), Fixed(layers=LAYERS, experts=6), 10
    of = {"selector": selector, "gradient": gradient, **RELEASED}
    problem = problem_of(family, asked=TEST[:2], **of)
    answers = remixer(family, optimizer=NGD(), **of).answer(TEST[:2])
    for b, (question, answer) in enumerate(zip(TEST[:2], answers, strict=True)):
        own = distribution(model, question)
        core = torch.zeros_like(own, dtype=torch.bool).scatter(1, own.topk(6).indices, True)
        core[[i for i in range(len(own)) if i not in LAYERS]] = False
        omega, first, second = own.clone(), torch.zeros_like(own), torch.zeros_like(own)
        for step in range(steps):
            free = omega.clone().requires_grad_()
            loss = torch.zeros(())
            for row, share in zip(problem.neighbours.index[b], problem.neighbours.weight[b], strict=True):
                known = pool(family).questions[row]
                prompt = model.encode(known)
                edit = written_over(model, prompt, free, core, gradient=gradient)
                loss = loss - share * choice_scores(model.model, prompt, edit)[known.answer]
            (slope,) = torch.autograd.grad(loss, free)
            slope = torch.stack([tangent(*rows) for rows in zip(slope, omega, core, strict=True)])
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            rate = 1e-5 + (1e-2 - 1e-5) * (1 + math.cos(math.pi * step / (steps - 1))) / 2
            unbiased = second / (1 - 0.999 ** (step + 1))
            moved = omega - rate * first / (1 - 0.9 ** (step + 1)) / (unbiased.sqrt() + 1e-8)
            omega = torch.stack([projected(*rows) for rows in zip(moved, own, core, strict=True)])
        torch.testing.assert_close(answer.pathway.router, omega, atol=1e-5, rtol=0)
        assert (omega - own).abs().max() > 0.02
        prompt = model.encode(question)
        with torch.no_grad():
            scores = choice_scores(model.model, prompt, written_over(model, prompt, omega))
        torch.testing.assert_close(torch.tensor(answer.scores), scores, atol=1e-5, rtol=0)
