"""Roster of Experts against full forwards with the same noise, and its edges."""

import math

import pytest
import torch
from c3po_rivals.roe import RoE, _gumbel
from full_forwards import ASKED, FAMILIES, answered, context_of, token_logits, weighed


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "mixtral"])
def test_is_the_mean_probability_of_full_forwards_with_noise(family):
    context, answers = answered(RoE(passes=3, temperature=0.8), family)
    for question, prompt, answer in zip(ASKED, context.prompts(ASKED), answers, strict=True):
        generator, passes = context.generator(question), []
        for _ in range(3):
            noise, last = _gumbel(generator, prompt, 3, 8), len(prompt.ids) - 1

            def noisy(layer, logits, weights, noise=noise, last=last):
                added = torch.zeros_like(logits)
                tail = min(len(logits) - last, len(noise))
                added[last : last + tail] = 0.8 * noise[:tail, layer]
                index = (logits + added).topk(2).indices
                return index, weighed(logits, weights, index, family == "mixtral")

            passes.append(token_logits(context.model.model, prompt, noisy))
        for c, option in enumerate(prompt.options):
            chances = [sum(float(run[c][i].softmax(-1)[token]) for run in passes) / 3 for i, token in enumerate(option)]
            assert answer.scores[c] == pytest.approx(sum(map(math.log, chances)) / prompt.lengths[c], abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_of_no_size_is_the_base_and_other_noise_is_not(family):
    context, answers = answered(RoE(temperature=0), family)
    assert [a.scores for a in answers] == [a.scores for a in context.plain(ASKED)]
    _, tiny = answered(RoE(temperature=1e-6), family)
    for one, other in zip(tiny, answers, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    _, noisy = answered(RoE(), family)
    assert all(a.scores != pytest.approx(b.scores, abs=1e-4) for a, b in zip(noisy, answers, strict=True))


def test_noise_is_the_seeds():
    scores = [[a.scores for a in answered(RoE(), "olmoe", seed=seed)[1]] for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_noise_is_gumbels():
    prompt = context_of("olmoe").prompts(ASKED)[0]
    drawn = _gumbel(torch.Generator().manual_seed(0), prompt, 100, 1000)
    assert float(drawn.mean()) == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert float(drawn.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_costs_its_tail_once_a_pass():
    costs = [answered(RoE(passes=n), "olmoe")[1][0].cost for n in (1, 4)]
    assert costs[1].answer == pytest.approx(4 * costs[0].answer)
    assert costs[0].answer < costs[0].prefill == costs[1].prefill
