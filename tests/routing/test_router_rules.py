"""Rules over router scores: against the family's own router with other scores, and against nothing at all."""

from functools import cache

import pytest
import torch
from models.families.checks import model_of
from rounding import assert_near
from routing.inside_routers import inside
from routing.naive import assert_pristine, choice_scores
from routing.toys import questions
from transformers import CONFIG_MAPPING

from c3po_adaptive import Change, ModelError, SettingError
from c3po_adaptive.models.family_table import families
from c3po_adaptive.routing.router_rules import LayerRouting
from c3po_adaptive.types import Prompt

FAMILIES = ("olmoe", "deepseek", "qwen2_moe", "mixtral", "qwen3_moe")
SOFTMAX = {
    *("aria_text", "cohere2_moe", "dbrx", "deepseek", "deepseek_v2", "flex_olmo", "gemma4_text", "gpt_oss"),
    *("granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared", "hunyuan_v1_moe", "jamba", "jetmoe"),
    *("lara_mini", "longcat_flash", "mellum", "minimax", "mixtral", "olmoe", "qwen2_moe", "qwen3_5_moe_text"),
    *("qwen3_moe", "qwen3_next", "qwen3_omni_moe_thinker", "qwen3_vl_moe", "qwen4_exp_text", "zaya"),
    *("deepseek_ocr2", "unlimited_ocr"),
}
"""Families that mix their best experts by the softmax of router scores; others score or choose otherwise."""
TEXTS = ["Which object can float on water?", "Wood"]


@cache
def shared(family):
    return model_of(family)


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared(request.param)


def prompts(model, n=5):
    return [model.encode(q) for q in questions(n)]


def own(routing: LayerRouting) -> Change:
    return Change(None, routing.index, routing.weights)


def shifted_by(delta):
    """The rule that adds ``delta [B, L, E]`` to the router's scores."""

    def rule(routing):
        logits = routing.logits + delta[routing.sample, routing.position]
        return routing.change(logits.topk(routing.index.shape[1]).indices, logits)

    return rule


def patched(model, delta):
    """The family's own routers, with ``delta [L, E]`` added inside to what their matrix gives."""
    return inside(model, lambda scores, position: scores + delta[position].to(scores.dtype))


def deltas(model, count, scale=2.0):
    shape = (count, len(model.sites), model.n_experts)
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))


class TestNothing:
    @pytest.mark.parametrize("rule", [own, lambda routing: None], ids=["own routing", "None"])
    def test_changes_nothing_bit_for_bit(self, model, rule):
        base = model.score_choices(questions(5))
        assert all(map(torch.equal, model.score_choices(questions(5), routing=rule), base))
        assert torch.equal(model.forward(TEXTS, rule).logits, model.forward(TEXTS).logits)
        plain = model.ruled(prompts(model))
        for one, other in zip(model.ruled(prompts(model), rule), plain, strict=True):
            assert one.work == other.work, "as many experts run"

    def test_a_shift_of_zero_is_the_own_choice(self, model):
        found = model.ruled(prompts(model), shifted_by(torch.zeros(5, len(model.sites), model.n_experts)))
        for one, other in zip(found, model.ruled(prompts(model)), strict=True):
            assert_near(one.token_scores, other.token_scores)

    def test_a_rule_of_tails_keeps_what_is_prefilled(self, model):
        for start in range(len(model.sites)):
            found = model.ruled(prompts(model), own, start=start)
            for one, other in zip(found, model.ruled(prompts(model)), strict=True):
                assert_near(one.token_scores, other.token_scores)


class TestShift:
    def test_is_the_familys_own_router_with_other_scores(self, model):
        asked, delta = prompts(model), deltas(model, 5)
        found = model.ruled(asked, shifted_by(delta))
        for b, (prompt, one) in enumerate(zip(asked, found, strict=True)):
            with torch.no_grad(), patched(model, delta[b]):
                expected = choice_scores(model.model, prompt)
            torch.testing.assert_close(one.scores(), expected, atol=1e-4, rtol=0)
            assert (one.scores() - model.ruled([prompt])[0].scores()).abs().max() > 1e-3
        assert_pristine(model.model)

    def test_forward_has_it_at_every_token(self, model):
        delta = deltas(model, 2)
        found = model.forward(TEXTS, shifted_by(delta)).logits
        for b, text in enumerate(TEXTS):
            ids = model.encode_text(text).ids
            with torch.no_grad(), patched(model, delta[b]):
                expected = model.model(torch.tensor([ids]), use_cache=False).logits[0]
            torch.testing.assert_close(found[b, -len(ids) :], expected, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["greedy", "beams"])
    def test_text_is_generated_by_it(self, model, options):
        delta = deltas(model, 2)
        found = model.generate(TEXTS, shifted_by(delta), max_new_tokens=8, do_sample=False, **options)
        for b, text in enumerate(TEXTS):
            with patched(model, delta[b]):
                expected = model.generate(text, max_new_tokens=8, do_sample=False, **options)
            assert found[b] == expected
        assert found != model.generate(TEXTS, max_new_tokens=8, do_sample=False, **options)

    def test_tokens_of_a_generation_are_told_apart(self, model):
        seen = []

        def rule(routing):
            if routing.position == 0:
                seen.append(
                    list(zip(routing.sample.tolist(), routing.token.tolist(), routing.real.tolist(), strict=True))
                )

        texts = ["Wood", "Woods"]
        assert model.generate(texts, rule, max_new_tokens=3, do_sample=False) == model.generate(
            texts, max_new_tokens=3, do_sample=False
        )
        assert [place for place in seen[0] if place[2]] == [(b, t, True) for b in (0, 1) for t in range(4 + b)]
        assert seen[1:] == [[(0, 4 + step, True), (1, 5 + step, True)] for step in range(len(seen) - 1)]

    def test_gradient_is_that_of_a_full_forward(self, model):
        """A text behind its first token: all of it is tail."""
        texts = [Prompt(p.ids[:1], (p.ids[1:],), (1.0,)) for p in prompts(model, 3)]
        delta = deltas(model, 3, scale=0.5).requires_grad_()
        scores = torch.stack([one.scores()[0] for one in model.ruled(texts, shifted_by(delta), start=0)])
        (gradient,) = torch.autograd.grad(scores.sum(), delta)
        for b, text in enumerate(texts):
            single = delta[b].detach().requires_grad_()
            with patched(model, single):
                expected = choice_scores(model.model, text)[0]
                (naive,) = torch.autograd.grad(expected, single)
            torch.testing.assert_close(scores[b], expected, atol=1e-3, rtol=1e-5)
            torch.testing.assert_close(gradient[b], naive, atol=1e-3, rtol=1e-3)
            assert naive.abs().max() > 0.01

    def test_experts_that_no_token_chose_have_no_gradient_where_weights_are_renormalized(self):
        model = shared("mixtral")
        text = Prompt(tuple(range(5, 6)), ((9, 11),), (1.0,))
        delta = torch.zeros(1, len(model.sites), model.n_experts, requires_grad=True)
        used = set()

        def rule(routing):
            change = shifted_by(delta)(routing)
            used.update((routing.position, int(expert)) for expert in change.index.flatten())
            return change

        (gradient,) = torch.autograd.grad(model.ruled([text], rule, start=0)[0].scores()[0], delta)
        assert {tuple(place) for place in gradient[0].nonzero().tolist()} <= used
        assert len(used) < gradient.numel()

    def test_does_not_depend_on_the_batch(self, model):
        asked, delta = prompts(model), deltas(model, 5)
        together = model.ruled(asked, shifted_by(delta))
        for b, prompt in enumerate(asked):
            alone = model.ruled([prompt], shifted_by(delta[b : b + 1]))[0]
            assert_near(alone.token_scores, together[b].token_scores)
            assert alone.work == together[b].work

    def test_the_same_prompt_twice_may_be_ruled_differently(self, model):
        one, other = model.ruled(prompts(model, 1) * 2, shifted_by(deltas(model, 2)))
        assert not torch.equal(one.token_scores, other.token_scores)


class TestTails:
    def test_only_layers_from_the_start_on_are_asked_and_only_about_tails(self, model):
        seen = []

        def rule(routing):
            seen.append((routing.position, set(routing.token[routing.real].tolist())))

        asked = prompts(model, 1)
        model.ruled(asked, rule, start=len(model.sites) - 1)
        last = len(asked[0].ids) - 1
        longest = max(map(len, asked[0].options))
        assert seen == [(len(model.sites) - 1, set(range(last, last + longest)))]

    def test_costs_what_is_run(self, model):
        one_expert = lambda routing: routing.change(routing.index[:, :1])  # noqa: E731
        everywhere, plain = model.ruled(prompts(model), one_expert)[0].work, model.ruled(prompts(model))[0].work
        assert everywhere.forward.experts == plain.forward.experts / 2
        assert everywhere.forward.linear == plain.forward.linear
        costs = [model.ruled(prompts(model), one_expert, start=s)[0].work.flops for s in range(len(model.sites))]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] < everywhere.flops

    def test_a_layer_that_is_not_there(self, model):
        with pytest.raises(SettingError, match=r"Expected start to be a MoE layer, .* got 9"):
            model.ruled(prompts(model), own, start=9)


class TestLeavesTheModelAsItWas:
    def test_after_an_exception(self, model):
        def breaks(routing):
            if routing.position == 1:
                raise ZeroDivisionError

        for start in (None, 0):
            with pytest.raises(ZeroDivisionError):
                model.ruled(prompts(model), breaks, start=start)
            assert_pristine(model.model)


@pytest.mark.parametrize(
    "family",
    [name for name, row in families().items() if "refused" not in row and name in (*CONFIG_MAPPING, "deepseek")],
)
def test_every_family_has_it_as_its_own_router_does_or_is_refused(family):
    model = model_of(family)
    asked, delta = prompts(model, 2), deltas(model, 2)
    if family not in SOFTMAX:
        with pytest.raises(ModelError, match="cannot be had for this family"):
            model.ruled(asked, shifted_by(delta))
        assert_pristine(model.model)
        return
    found = model.ruled(asked, shifted_by(delta))
    for b, (prompt, one) in enumerate(zip(asked, found, strict=True)):
        with torch.no_grad(), patched(model, delta[b]):
            expected = choice_scores(model.model, prompt)
        torch.testing.assert_close(one.scores(), expected, atol=1e-3, rtol=0)


def test_logits_predict_the_scored_tokens():
    model = shared("olmoe")
    for one in model.ruled(prompts(model)):
        logs = model.logits(one).log_softmax(-1)
        assert logs.shape == (len(one.scored), model.model.config.vocab_size)
        assert_near(logs.gather(1, one.scored[:, None])[:, 0], one.token_scores)
