"""Roster of Experts against full forwards with the same noise, and its edges."""

import math

import pytest
import torch
from plugins.rivals import FAMILIES, context_of, module_of, public_names_only, registry_with, token_logits, weighed

from c3po_adaptive.errors import ModelError, SettingError
from c3po_adaptive.testing import AnswererContract
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(4, "asked")


@pytest.fixture(scope="module")
def registry():
    return registry_with("roe.py")


class TestRoE(AnswererContract):
    @pytest.fixture
    def answerer(self, registry):
        return registry.create("answerer", "roe")


def answered(registry, family, seed=0, **settings):
    context = context_of(family, seed=seed)
    return context, registry.create("answerer", {"name": "roe"} | settings).prepare(context).answer(ASKED)


@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "mixtral"])
def test_is_the_mean_probability_of_full_forwards_with_noise(registry, family):
    context, answers = answered(registry, family, passes=3, temperature=0.8)
    gumbel = module_of(registry.create("answerer", "roe"))._gumbel
    for question, prompt, answer in zip(ASKED, context.prompts(ASKED), answers, strict=True):
        generator, passes = context.generator(question), []
        for _ in range(3):
            noise, last = gumbel(generator, prompt, 3, 8), len(prompt.ids) - 1

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
def test_noise_of_no_size_is_the_base_and_other_noise_is_not(registry, family):
    context, answers = answered(registry, family, temperature=0)
    assert [a.scores for a in answers] == [a.scores for a in context.plain(ASKED)]
    _, tiny = answered(registry, family, temperature=1e-6)
    for one, other in zip(tiny, answers, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    _, noisy = answered(registry, family)
    assert all(a.scores != pytest.approx(b.scores, abs=1e-4) for a, b in zip(noisy, answers, strict=True))


def test_noise_is_the_seeds(registry):
    scores = [[a.scores for a in answered(registry, "olmoe", seed=seed)[1]] for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_noise_is_gumbels(registry):
    gumbel = module_of(registry.create("answerer", "roe"))._gumbel
    prompt = context_of("olmoe").prompts(ASKED)[0]
    drawn = gumbel(torch.Generator().manual_seed(0), prompt, 100, 1000)
    assert float(drawn.mean()) == pytest.approx(0.5772, abs=0.01)  # Euler's constant
    assert float(drawn.var()) == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_costs_its_tail_once_a_pass(registry):
    costs = [answered(registry, "olmoe", passes=n)[1][0].cost for n in (1, 4)]
    assert costs[1].answer == pytest.approx(4 * costs[0].answer)
    assert costs[0].answer < costs[0].prefill == costs[1].prefill


@pytest.mark.parametrize("setting", [{"passes": 0}, {"passes": 1.5}, {"temperature": -1}, {"temperature": math.inf}])
def test_settings_are_checked(registry, setting):
    with pytest.raises(SettingError, match="Expected roe"):
        registry.create("answerer", {"name": "roe"} | setting)


def test_other_routers_are_refused(registry):
    with pytest.raises(ModelError, match="cannot be had for this family"):
        answered(registry, "deepseek_v3")


def test_uses_public_names_only():
    assert public_names_only("roe.py")
