"""Interventions against plain full forward passes: with experts' weights exchanged, and with routing made by hand."""

import copy
from contextlib import ExitStack, contextmanager
from functools import cache

import pytest
import torch
from c3po_audit.interventions import (
    ALONE,
    BANNED,
    EVERYONE,
    NEXT,
    PERMUTED,
    UNIFORM,
    At,
    Banned,
    Dimmed,
    cycles,
    interventions,
    lacking,
)
from c3po_audit.measure import Looking
from models.families.checks import model_of
from routing.naive import assert_pristine, choice_scores
from routing.toys import questions

from c3po_adaptive.models.family_table import families
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.sites import router_logits

BY_HAND = ("olmoe", "qwen2_moe", "mixtral", "deepseek", "deepseek_v3", "glm4_moe", "gpt_oss", "llama4_text")
WORKING = [name for name, row in families().items() if "refused" not in row and "untried" not in row]
IDENTITY_EXPERTS = "longcat_flash"  # some of its experts have no weights that could be exchanged


@cache
def shared(family):
    return model_of(family)


def prompts(model, n=3):
    return [model.encode(q) for q in questions(n)]


def weighed_by_hand(site, logits, own, chosen):
    """``[E]`` the chosen experts weighed as the layer weighs its own, for one token; ``own [E]``."""
    scores = logits.sigmoid() if site.scoring == "sigmoid" else logits.softmax(-1)
    new = torch.zeros_like(own)
    new[chosen] = scores[chosen]
    factor = own.sum() / (new.sum() if site.renormalized else scores[own > 0].sum())
    return new * factor


def by_hand(name, model, site, position, logits, own):
    """One token's routing ``[E]`` under an intervention."""
    experts, used = len(own), (own > 0).nonzero().squeeze(1).tolist()
    if name == PERMUTED:
        new = torch.zeros_like(own)
        order = cycles(len(model.sites), experts, experts, 3)[position]
        for expert in used:
            new[order[expert]] = own[expert]
        return new
    if name == UNIFORM:
        return torch.where(own > 0, own.sum() / len(used), 0)
    if name == EVERYONE:
        return torch.full_like(own, float(own.sum()) / experts)
    if name == ALONE:
        new = torch.zeros_like(own)
        new[own.argmax()] = own.sum()
        return new
    rest = sorted(set(range(experts)) - set(used), key=lambda expert: -float(logits[expert]))
    if name == NEXT:
        return weighed_by_hand(site, logits, own, rest[: len(used)])
    _, layer, expert = name  # banned
    new = own.clone()
    if position == layer and own[expert] > 0:
        new[rest[0]], new[expert] = own[expert], 0
    return new


@contextmanager
def handmade(model, name, positions=None, first=0):
    """The transformers model with each token's routing made by hand, at tokens from ``first`` on."""
    with ExitStack() as stack:
        for position, site in enumerate(model.sites):
            kept = {}

            def remember(module, args, output, kept=kept, site=site):
                kept["logits"] = router_logits(output, site).float()

            def edit(own, kept, position=position, site=site):
                rows = [
                    by_hand(name, model, site, position, kept["logits"][t], row) if t >= first else row
                    for t, row in enumerate(own)
                ]
                return torch.stack(rows)

            def experts(module, args, kept=kept, edit=edit):
                hidden, index, weights = args
                own = torch.zeros(len(index), model.n_experts).scatter(1, index, weights.float())
                everyone = torch.arange(model.n_experts).expand(len(index), -1)
                return hidden, everyone, edit(own, kept).to(weights.dtype)

            def router(module, args, output, kept=kept, edit=edit):
                return edit(output[0].float(), kept).to(output[0].dtype), output[1]

            if positions is not None and position not in positions:
                continue
            stack.callback(site.router.register_forward_hook(remember).remove)
            if "Llama4" in type(site.router).__name__:
                stack.callback(site.router.register_forward_hook(router).remove)
            else:
                stack.callback(site.experts.register_forward_pre_hook(experts).remove)
        yield


def assert_by_hand(model, found, asked, name, **where):
    for prompt, one in zip(asked, found, strict=True):
        place = {"first": len(prompt.ids) - 1} if where.get("tail") else {}
        with torch.no_grad(), handmade(model, name, where.get("positions"), **place):
            expected = choice_scores(model.model, prompt)
        torch.testing.assert_close(one.scores(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", BY_HAND)
@pytest.mark.parametrize("name", [PERMUTED, UNIFORM, EVERYONE, ALONE, NEXT])
def test_is_what_is_made_by_hand(family, name):
    model = shared(family)
    asked, rule = prompts(model, 2), interventions(model, 3)[name]
    everywhere = model.ruled(asked, rule)
    assert_by_hand(model, everywhere, asked, name)
    assert_by_hand(model, model.ruled(asked, rule, start=0), asked, name, tail=True)
    last = len(model.sites) - 1
    assert_by_hand(model, model.ruled(asked, At(last, rule), start=last), asked, name, tail=True, positions={last})
    own = model.ruled(asked)
    assert max((a.scores() - b.scores()).abs().max() for a, b in zip(everywhere, own, strict=True)) > 1e-4
    assert_pristine(model.model)


@pytest.mark.parametrize("family", BY_HAND)
def test_a_ban_is_what_is_made_by_hand_and_its_slope_that_of_dimming(family):
    model = shared(family)
    asked = prompts(model, 2)
    looking = Looking(torch.zeros(2, len(model.sites), model.n_experts, dtype=torch.long))
    model.ruled(asked, looking, start=0)
    layer = len(model.sites) - 1
    expert = int(looking.used[:, layer].sum(0).argmax())
    found = model.ruled(asked, At(layer, Banned(expert)), start=layer)
    assert_by_hand(model, found, asked, (BANNED, layer, expert), tail=True)

    def total(value):
        scale = torch.ones(2, len(model.sites), model.n_experts)
        scale[:, layer, expert] = value
        return sum(float(one.scores().sum()) for one in model.ruled(asked, Dimmed(scale), start=0))

    own = sum(float(one.scores().sum()) for one in model.ruled(asked))
    assert total(1) == pytest.approx(own, abs=1e-3)
    assert total(0) == pytest.approx(sum(float(one.scores().sum()) for one in found), abs=1e-3)
    scale = torch.ones(2, len(model.sites), model.n_experts, requires_grad=True)
    scores = torch.stack([one.scores().sum() for one in model.ruled(asked, Dimmed(scale), start=0)])
    (slope,) = torch.autograd.grad(scores.sum(), scale)
    differences = (total(1 + 1e-2) - total(1 - 1e-2)) / 2e-2
    assert float(slope[:, layer, expert].sum()) == pytest.approx(differences, rel=0.05, abs=5e-3)
    assert float(slope.abs().max()) > 1e-3


@pytest.mark.parametrize("family", [name for name in WORKING if name != IDENTITY_EXPERTS])
def test_permuted_is_the_model_with_its_experts_weights_exchanged_in_every_family(family):
    model = shared(family)
    order = cycles(len(model.sites), model.sites[0].mixable, model.n_experts, 3)
    other = copy.deepcopy(model.model)
    exchanged = RoutedModel(other, model.tokenizer, name=family)
    for position, site in enumerate(exchanged.sites):
        places, routers = order[position, : site.mixable], {id(p) for p in site.router.parameters()}
        for parameter in {id(p): p for p in site.experts.parameters()}.values():
            if parameter.ndim > 1 and id(parameter) not in routers:  # [E, F, H], [E, F], or [E * F, H] (dbrx)
                parameter.data.copy_(parameter.data.view(site.mixable, -1)[places].view_as(parameter))
    asked = prompts(model, 2)
    found = model.ruled(asked, interventions(model, 3)[PERMUTED])
    for prompt, one in zip(asked, found, strict=True):
        with torch.no_grad():
            expected = choice_scores(other, prompt)
        torch.testing.assert_close(one.scores(), expected, atol=1e-3, rtol=1e-3)
    own = model.ruled(asked)
    assert max((a.scores() - b.scores()).abs().max() for a, b in zip(found, own, strict=True)) > 1e-4


@pytest.mark.parametrize("family", WORKING)
def test_every_family_has_them_or_says_why(family):
    model = shared(family)
    asked, rules = prompts(model, 2), interventions(model, 0)
    states = model.prefill(asked)
    missing = lacking(model, rules, states[0])
    for name in {*rules} - {*missing}:
        for found in (model.ruled(asked, rules[name]), model.ruled_from(states, rules[name])):
            assert all(one.scores().isfinite().all() for one in found), name
    assert {*missing} <= {NEXT, UNIFORM, ALONE}, "eight experts, of which two are used, or one"
    if max(site.top_k for site in model.sites) == 1:
        assert {UNIFORM, ALONE} <= {*missing}
    else:
        assert {UNIFORM, ALONE}.isdisjoint(missing)
    assert_pristine(model.model)


def test_too_few_experts_leave_no_other_ones():
    model = model_of("olmoe", num_experts=4, num_experts_per_tok=3)
    rules, states = interventions(model, 0), model.prefill(prompts(model, 1))
    assert lacking(model, rules, states[0]) == {NEXT: "3 of 4 experts are used, which leaves no other 3"}
    model = model_of("olmoe", num_experts=2, num_experts_per_tok=2)
    states = model.prefill(prompts(model, 1))
    assert {*lacking(model, interventions(model, 0), states[0])} == {NEXT, EVERYONE, BANNED}
    model = model_of("olmoe", num_experts=1, num_experts_per_tok=1)
    states = model.prefill(prompts(model, 1))
    assert {*lacking(model, interventions(model, 0), states[0])} == {PERMUTED, UNIFORM, ALONE, EVERYONE, NEXT, BANNED}


def test_permutations_leave_no_expert_in_its_place_and_are_settled_by_the_seed():
    order = cycles(5, 8, 9, 1)
    assert (order[:, 8] == 8).all(), "a choice that is no expert stays"
    assert (order[:, :8] != torch.arange(8)).all()
    assert all(sorted(layer) == list(range(9)) for layer in order.tolist())
    assert torch.equal(order, cycles(5, 8, 9, 1))
    assert not torch.equal(order, cycles(5, 8, 9, 2))
    assert len({tuple(layer) for layer in order.tolist()}) == 5, "a permutation of its own"


def test_looking_changes_nothing_and_counts_every_token_once():
    model = shared("olmoe")
    asked = prompts(model, 3)
    looking = Looking(torch.zeros(3, len(model.sites), model.n_experts, dtype=torch.long))
    looked, plain = model.prefill_along(asked, looking), model.prefill(asked)
    for one, other, used in zip(looked, plain, looking.used, strict=True):
        torch.testing.assert_close(one.token_scores, other.token_scores, atol=1e-5, rtol=0)
        assert one.work == other.work
        tokens = other.packed.past + other.packed.rows
        assert (used.sum(-1) == model.sites[0].top_k * tokens).all()
