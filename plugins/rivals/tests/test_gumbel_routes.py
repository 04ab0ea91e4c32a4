"""Counterfactual routes: equal compute, the own one among them, chosen by confidence or, declared, by the label."""

from dataclasses import replace

import pytest
import torch
from c3po_rivals.gumbel_routes import GumbelRoutes, _gumbel
from full_forwards import ASKED, FAMILIES, answered, context_of, scores_of, weighed

from c3po_adaptive.errors import DataError, SettingError


def entropy(scores):
    return float(torch.distributions.Categorical(logits=torch.tensor(scores)).entropy())


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_route_is_a_full_forward_with_noise_in_the_last_layers(family, layers):
    """Of one route and the own one, that with the least entropy."""
    context, answers = answered(GumbelRoutes(routes=1, layers=layers), family)
    first = 3 - layers
    for question, prompt, answer in zip(ASKED, context.prompts(ASKED), answers, strict=True):
        noise, last = _gumbel(context.generator(question), prompt, layers, 8), len(prompt.ids) - 1

        def noisy(layer, logits, weights, noise=noise, last=last):
            added = torch.zeros_like(logits)
            tail = min(len(logits) - last, len(noise))
            if layer >= first:
                added[last : last + tail] = noise[:tail, layer - first]
            index = (logits + added).topk(2).indices
            return index, weighed(logits, weights, index, family == "mixtral")

        candidates = [scores_of(context.model.model, prompt, choose) for choose in (None, noisy)]
        assert answer.scores == pytest.approx(min(candidates, key=entropy), abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_own_route_is_among_them(family):
    context, confident = answered(GumbelRoutes(), family)
    _, oracle = answered(GumbelRoutes(choose="label"), family)
    plain = context.plain(ASKED)
    for question, own, sure, best in zip(ASKED, plain, confident, oracle, strict=True):
        assert entropy(sure.scores) <= entropy(own.scores)
        assert best.scores[question.answer] >= own.scores[question.answer]
    assert any(a.scores != b.scores for a, b in zip(confident, plain, strict=True))
    assert [a.scores for a in answered(GumbelRoutes(routes=0), family)[1]] == [a.scores for a in plain]


def test_routes_have_equal_compute():
    context = context_of("olmoe")
    start, prompts = 2, context.prompts(ASKED)
    own = context.model.ruled(prompts, lambda routing: None, start=start)
    _, answers = answered(GumbelRoutes(routes=3), "olmoe")
    for answer, run in zip(answers, own, strict=True):
        assert answer.cost.optimisation == pytest.approx(3 * run.work.flops)


def test_choosing_by_the_label_is_an_upper_bound_and_needs_it():
    made = {c: GumbelRoutes(choose=c) for c in ("confidence", "label")}
    context = context_of("olmoe")
    assert not made["confidence"].prepare(context).needs_label
    assert made["label"].prepare(context).needs_label
    with pytest.raises(DataError, match="expected the label of question 'asked0'"):
        made["label"].prepare(context).answer([replace(ASKED[0], answer=None)])


def test_more_layers_than_there_are():
    with pytest.raises(SettingError, match="layers <= 3, the model's MoE layers, got 4"):
        answered(GumbelRoutes(layers=4), "olmoe")
