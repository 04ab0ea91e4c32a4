"""Counterfactual routes: equal compute, the own one among them, chosen by confidence or, declared, by the label."""

from dataclasses import replace

import pytest
import torch
from plugins.rivals import FAMILIES, context_of, module_of, public_names_only, registry_with, token_logits, weighed

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.testing import AnswererContract
from c3po_adaptive.testing.answerers import toy_questions

ASKED = toy_questions(6, "asked")


@pytest.fixture(scope="module")
def registry():
    return registry_with("gumbel_routes.py")


class TestByConfidence(AnswererContract):
    @pytest.fixture
    def answerer(self, registry):
        return registry.create("answerer", "gumbel-routes")


class TestByLabel(AnswererContract):
    @pytest.fixture
    def answerer(self, registry):
        return registry.create("answerer", {"name": "gumbel-routes", "choose": "label", "layers": 2})


def answered(registry, family, **settings):
    context = context_of(family)
    return context, registry.create("answerer", {"name": "gumbel-routes"} | settings).prepare(context).answer(ASKED)


def entropy(scores):
    return float(torch.distributions.Categorical(logits=torch.tensor(scores)).entropy())


@pytest.mark.parametrize("family", ["olmoe", "mixtral"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_route_is_a_full_forward_with_noise_in_the_last_layers(registry, family, layers):
    """Of one route and the own one, that with the least entropy."""
    context, answers = answered(registry, family, routes=1, layers=layers)
    gumbel, first = module_of(registry.create("answerer", "gumbel-routes"))._gumbel, 3 - layers
    for question, prompt, answer in zip(ASKED, context.prompts(ASKED), answers, strict=True):
        noise, last = gumbel(context.generator(question), prompt, layers, 8), len(prompt.ids) - 1

        def noisy(layer, logits, weights, noise=noise, last=last):
            added = torch.zeros_like(logits)
            tail = min(len(logits) - last, len(noise))
            if layer >= first:
                added[last : last + tail] = noise[:tail, layer - first]
            index = (logits + added).topk(2).indices
            return index, weighed(logits, weights, index, family == "mixtral")

        candidates = []
        for choose in (None, noisy):
            logs = [z.log_softmax(-1) for z in token_logits(context.model.model, prompt, choose)]
            sums = [float(z[range(len(o)), list(o)].sum()) for z, o in zip(logs, prompt.options, strict=True)]
            candidates.append([s / n for s, n in zip(sums, prompt.lengths, strict=True)])
        assert answer.scores == pytest.approx(min(candidates, key=entropy), abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_own_route_is_among_them(registry, family):
    context, confident = answered(registry, family)
    _, oracle = answered(registry, family, choose="label")
    plain = context.plain(ASKED)
    for question, own, sure, best in zip(ASKED, plain, confident, oracle, strict=True):
        assert entropy(sure.scores) <= entropy(own.scores)
        assert best.scores[question.answer] >= own.scores[question.answer]
    assert any(a.scores != b.scores for a, b in zip(confident, plain, strict=True))
    assert [a.scores for a in answered(registry, family, routes=0)[1]] == [a.scores for a in plain]


def test_routes_have_equal_compute(registry):
    context = context_of("olmoe")
    start, prompts = 2, context.prompts(ASKED)
    own = context.model.ruled(prompts, lambda routing: None, start=start)
    _, answers = answered(registry, "olmoe", routes=3)
    for answer, run in zip(answers, own, strict=True):
        assert answer.cost.optimisation == pytest.approx(3 * run.work.flops)


def test_choosing_by_the_label_is_an_upper_bound_and_needs_it(registry):
    made = {c: registry.create("answerer", {"name": "gumbel-routes", "choose": c}) for c in ("confidence", "label")}
    context = context_of("olmoe")
    assert not made["confidence"].prepare(context).needs_label
    assert made["label"].prepare(context).needs_label
    with pytest.raises(DataError, match="expected the label of question 'asked0'"):
        made["label"].prepare(context).answer([replace(ASKED[0], answer=None)])


@pytest.mark.parametrize("setting", [{"routes": -1}, {"layers": 0}, {"choose": "best"}, {"routes": True}])
def test_settings_are_checked(registry, setting):
    with pytest.raises(SettingError, match="Expected gumbel-routes"):
        registry.create("answerer", {"name": "gumbel-routes"} | setting)


def test_more_layers_than_there_are(registry):
    with pytest.raises(SettingError, match="layers <= 3, the model's MoE layers, got 4"):
        answered(registry, "olmoe", layers=4)


def test_uses_public_names_only():
    assert public_names_only("gumbel_routes.py")
