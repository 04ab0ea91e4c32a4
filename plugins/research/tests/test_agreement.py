"""What neighbours' gradients have in common, against closed forms, noise, and a planted effect."""

from dataclasses import replace

import pytest
import torch
from c3po_research.agreement import Agreement, CrossFitted, Shrunken, noise_level

from c3po_adaptive.routing.mixing import mass
from c3po_adaptive.testing import toy_problem
from c3po_adaptive.types import Neighbours, Selection

K, L, E = 12, 4, 8


def drawn(draws, seed=0, *, common=None, weight=None):
    """Gradients of K neighbours: noise, and what is common to all."""
    noise = torch.randn(draws, K, L, E, generator=torch.Generator().manual_seed(seed))
    gradients = noise if common is None else noise + common
    weight = torch.ones(draws, K) / K if weight is None else weight.expand(draws, K)
    return Agreement.of(gradients, weight, torch.ones(draws, L, E, dtype=torch.bool))


UNEVEN = torch.linspace(1, 4, K) / torch.linspace(1, 4, K).sum()


def test_it_is_the_sum_over_pairs():
    agreement = drawn(3, weight=UNEVEN)
    pairs = torch.einsum("bile,bjle->blij", agreement.terms, agreement.terms)
    apart = pairs - torch.diag_embed(pairs.diagonal(dim1=-2, dim2=-1))
    torch.testing.assert_close(agreement.common, apart.sum((-1, -2)))
    torch.testing.assert_close(agreement.error, (2 * apart.square().sum((-1, -2))).sqrt())


@pytest.mark.parametrize("weight", [None, UNEVEN])
def test_it_is_zero_on_average_under_noise(weight):
    """10,000 draws: within three and a half standard errors, where the squared length is far above."""
    agreement = drawn(10_000, weight=weight)
    error = agreement.common.std(0) / 10_000**0.5
    assert (agreement.common.mean(0).abs() < 3.5 * error).all()
    assert (agreement.mean.square().sum(-1).mean(0) > 50 * error).all()


def test_its_error_is_that_of_noise():
    agreement = drawn(4_000)
    torch.testing.assert_close(agreement.error.square().mean(0), agreement.common.var(0), rtol=0.1, atol=0)


def test_it_is_unbiased_for_the_true_length():
    common = torch.zeros(L, E)
    common[1, 0], common[1, 1] = 0.5, -0.5  # on the tangent
    agreement = drawn(4_000, common=common)
    unbiased = agreement.common / (1 - 1 / K)
    torch.testing.assert_close(unbiased.mean(0), common.square().sum(-1), rtol=0.05, atol=0.02)


def test_it_is_the_benefit_of_steps_learned_from_the_others():
    """−⟨g_i, Δω_{−i}⟩ with Δω_{−i} = −Σ_{j≠i} w_j g_j, on average over i."""
    agreement = drawn(2, common=torch.eye(L, E), weight=UNEVEN)
    terms = agreement.terms
    left_out = agreement.mean[:, None] - terms
    torch.testing.assert_close(agreement.common, (terms * left_out).sum((1, 3)))


def test_experts_that_cannot_move_have_no_part():
    gradients = torch.randn(1, K, L, E, generator=torch.Generator().manual_seed(3))
    able = torch.ones(1, L, E, dtype=torch.bool)
    able[..., 5:] = False
    changed = gradients.clone()
    changed[..., 5:] = 100.0
    one, other = (Agreement.of(g, torch.ones(1, K), able) for g in (gradients, changed))
    torch.testing.assert_close(one.terms, other.terms)
    torch.testing.assert_close(one.terms.sum(-1), torch.zeros(1, K, L), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weight", [None, UNEVEN], ids=["equal", "uneven"])
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_level_holds_for_all_layers_together(level, weight):
    """Under noise a sample has any layer above it as often as declared: 2,000 draws, four standard errors."""
    agreement = drawn(2_000, seed=1, weight=weight)
    found = (agreement.z > noise_level(agreement, level, 199)[:, None]).any(-1).double().mean().item()
    assert abs(found - level) < 4 * (level * (1 - level) / 2_000) ** 0.5 + 0.005


def planted(seed, strength, rows=(4, 5)):
    """A toy problem of 40 neighbours whose kept gradients are noise, but for what is common in some layers."""
    problem = toy_problem(K=10, selected=rows)
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(3, 40, *problem.own.shape[1:], generator=generator)
    for row in rows:
        gradients[:, :, row, 0] -= strength
        gradients[:, :, row, 1] += strength
    near = Neighbours(torch.zeros(3, 40).long(), torch.ones(3, 40), torch.full((3, 40), 1 / 40))
    return replace(problem, neighbours=near, of_neighbours=lambda artifact: gradients)


def test_planted_layers_are_found_and_others_left():
    chosen = torch.stack([CrossFitted().select(planted(seed, 2.0)).layers for seed in range(20)]).float()
    assert (chosen[..., 4:].mean() > 0.9) and (chosen[..., :4].mean() < 0.05)


def test_the_predicted_benefit_is_what_a_step_brings_to_neighbours_that_were_left_out():
    """Each of 40 neighbours left out in turn: the first-order fall of its loss along a unit step of the others."""
    problem = planted(0, 2.0)
    gradients = problem.of_neighbours(None)
    gradients = gradients - gradients.mean(-1, keepdim=True)
    selection = CrossFitted(level=0.5, threshold=-1e9).select(problem)
    steps = -(gradients.sum(1, keepdim=True) - gradients)
    steps = steps / steps.norm(dim=-1, keepdim=True)
    fall = -(gradients * steps).sum(-1).mean(1).sum(-1)
    torch.testing.assert_close(selection.strength, fall, rtol=1e-4, atol=1e-4)


def test_without_anything_planted_samples_are_left_alone():
    chosen = torch.stack([CrossFitted().select(planted(seed, 0.0)).layers.any(-1) for seed in range(100)]).float()
    assert chosen.mean() < 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5


def test_labels_that_contradict_each_other_leave_everything_alone():
    """Each second neighbour says the opposite: the length of their mean says little, and they agree on nothing."""
    chosen = []
    for seed in range(20):
        problem = planted(seed, 4.0)
        gradients = problem.of_neighbours(None).clone()
        gradients[:, ::2] *= -1
        chosen.append(CrossFitted().select(replace(problem, of_neighbours=lambda _, g=gradients: g)).layers)
    assert torch.stack(chosen).float().mean() < 0.02


def test_planted_experts_are_found():
    selector = CrossFitted(rank="score", expert_threshold=3.0)
    mask = selector.select(planted(0, 2.0)).mask
    assert mask[:, 4, :2].all() and mask[:, 4].sum(-1).float().mean() < 4


def test_shrunken_leaves_noise_alone_and_takes_what_is_common():
    rows = torch.ones(3, 6, 24, dtype=torch.bool)
    moved = []
    for strength in (0.0, 3.0):
        problem = planted(0, strength)
        problem = replace(problem, selection=Selection(rows))
        moved.append((Shrunken().optimize(problem) - problem.own).norm(dim=-1) / mass(problem.own)[..., 0])
    noise, common = moved
    assert noise.mean() < 0.02
    assert common[:, 4:].mean() > 0.3 and common[:, :4].mean() < 0.02


def test_shrunken_goes_no_farther_than_its_radius():
    problem = replace(planted(0, 100.0), selection=Selection(torch.ones(3, 6, 24, dtype=torch.bool)))
    step = (Shrunken(radius=0.1).optimize(problem) - problem.own).norm(dim=-1) / mass(problem.own)[..., 0]
    assert step.max() < 0.1 + 1e-5 and step[:, 4:].min() > 0.04


def test_few_neighbours_are_never_sure():
    """Of five the rarest flip is one in sixteen; of twelve a common effect is found."""
    found = []
    for count in (5, 12):
        problem = planted(0, 20.0)
        gradients = problem.of_neighbours(None)[:, :count]
        near = Neighbours(torch.zeros(3, count).long(), torch.ones(3, count), torch.full((3, count), 1 / count))
        problem = replace(problem, neighbours=near, of_neighbours=lambda artifact, each=gradients: each)
        found.append(CrossFitted().select(problem).layers[:, 4:])
    assert not found[0].any() and found[1].all()
