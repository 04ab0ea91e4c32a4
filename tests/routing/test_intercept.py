"""Routing is read as it is used, replaced where asked, and left as it was."""

from dataclasses import replace

import pytest
import torch
from rounding import assert_near
from routing.naive import FAMILIES, along, assert_pristine, logits, moved, own_routing, routed_model, shared_model

from c3po_adaptive import read_routing, replaying, rule_named
from c3po_adaptive.errors import ModelError, SettingError, ShapeError
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.intercept import intercepted, recorded
from c3po_adaptive.routing.rules import PathwayRule
from c3po_adaptive.routing.sites import find_sites
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer

TEXT = "Which object can float on water?"


@pytest.fixture(params=FAMILIES)
def model(request):
    return shared_model(request.param)


def everyone(weights, own, rows, at, **settings):
    """The rule that replaces row ``at`` of a single sequence of ``rows`` tokens by ω ``[L, E]``."""
    replaced = torch.full((rows,), -1)
    replaced[at] = 0
    active = settings.pop("active", torch.ones(1, len(weights), dtype=torch.bool))
    return PathwayRule(weights[None], own[None], replaced, torch.full((rows,), -1), active, **settings)


class TestReading:
    @pytest.mark.parametrize("renormalized", [False, True])
    @pytest.mark.parametrize("family", FAMILIES)
    def test_pathway_is_what_experts_are_multiplied_with(self, family, renormalized):
        model = routed_model(family, norm_topk_prob=renormalized)
        ids = model.encode_text(TEXT).ids
        with torch.no_grad():
            weights, _ = own_routing(model.model, ids)
        own = model.pathway(TEXT).weights
        torch.testing.assert_close(own, weights[-1], atol=1e-5, rtol=0)
        assert ((own > 0).sum(-1) == 2).all()
        mass = own.sum(-1)
        if renormalized:
            torch.testing.assert_close(mass, torch.ones(3))
        else:
            assert (mass < 0.999).all(), "the weights are probabilities of all experts, not rescaled to one"

    @pytest.mark.parametrize("renormalized", [False, True])
    def test_where_a_router_tells_no_experts_apart_weights_are_of_the_kind_that_other_layers_show(self, renormalized):
        model = tiny_moe("olmoe", norm_topk_prob=renormalized)
        with torch.no_grad():
            router = model.model.layers[0].mlp.gate.weight
            router.copy_(router[:1].expand_as(router).clone())
        assert {site.renormalized for site in find_sites(model)} == {renormalized}

    def test_every_token_is_recorded(self, model):
        ids = model.encode_text(TEXT).ids
        with torch.no_grad(), recorded(model.sites) as recording:
            model.model(torch.tensor([ids]))
        with torch.no_grad():
            weights, probabilities = own_routing(model.model, ids)
        for got, expected in zip(recording.stacked()[:2], (weights, probabilities), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
        assert_pristine(model.model)

    def test_some_tokens_alone_are_kept(self, model):
        tokens = torch.tensor([model.encode_text(TEXT).ids])
        rows = torch.tensor([2, 5])
        with torch.no_grad(), recorded(model.sites) as every:
            model.model(tokens)
        with torch.no_grad(), recorded(model.sites, rows) as some:
            model.model(tokens)
        for got, expected in zip(some.stacked(), every.stacked(), strict=True):
            assert torch.equal(got, expected[rows])

    def test_recording_nothing_is_an_error(self, model):
        with pytest.raises(ModelError, match="routing of 3 MoE layers, read 0"), recorded(model.sites):
            pass

    def test_own_experts_by_layer(self):
        model = routed_model("qwen2_moe", mlp_only_layers=[0])
        assert model.layers == (1, 2)
        assert model.pathway(TEXT).weights.shape == (2, 8)


class TestReplacing:
    def test_own_routing_put_back_changes_nothing(self, model):
        ids = model.encode_text(TEXT).ids
        with torch.no_grad():
            own, _ = own_routing(model.model, ids)
            samples = torch.arange(len(ids))
            rule = PathwayRule(own, own, samples, torch.full_like(samples, -1), torch.ones(own.shape[:2]).bool())
            base = logits(model.model, ids)
            with intercepted(model.sites, rule):
                again = logits(model.model, ids)
        assert_near(again, base)

    @pytest.mark.parametrize("layers", [(2,), (1, 2)])
    def test_only_the_named_row_changes(self, model, layers):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT), layers)
        with torch.no_grad():
            base = logits(model.model, ids)
            with intercepted(model.sites, everyone(pathway.weights, pathway.own, len(ids), len(ids) - 1)):
                new = logits(model.model, ids)
            expected = logits(model.model, ids, along(pathway.weights, pathway.own, len(ids) - 1))
        assert (new[-1] - base[-1]).abs().max() > 0.01
        assert_near(new[:-1], base[:-1])
        if layers == (2,):  # before the last layer, other rows of an expert's matrix product may round differently
            assert torch.equal(new[:-1], base[:-1])
        assert_near(new, expected)

    def test_row_in_the_middle_acts_on_later_tokens_through_attention(self, model):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT))
        rule = everyone(pathway.weights, pathway.own, len(ids), 5, active=pathway.changed()[None])
        with torch.no_grad(), intercepted(model.sites, rule):
            new = logits(model.model, ids)
        with torch.no_grad():
            base = logits(model.model, ids)
            expected = logits(model.model, ids, along(pathway.weights, pathway.own, 5, scope="last"))
        assert_near(new[:5], base[:5])
        assert_near(new, expected)

    def test_no_active_layer_is_the_base_bit_for_bit(self, model):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT), layers=(0, 1, 2))
        rule = everyone(pathway.weights, pathway.own, len(ids), len(ids) - 1, active=torch.zeros(1, 3).bool())
        with torch.no_grad():
            with intercepted(model.sites, rule):
                new = logits(model.model, ids)
            assert torch.equal(new, logits(model.model, ids))

    def test_inactive_layers_route_by_themselves(self, model):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT), layers=(0, 1, 2))
        active = torch.tensor([[False, True, False]])
        only = torch.where(active[0, :, None], pathway.weights, pathway.own)
        with torch.no_grad():
            with intercepted(model.sites, everyone(pathway.weights, pathway.own, len(ids), -1, active=active)):
                new = logits(model.model, ids)
            expected = logits(model.model, ids, along(only, pathway.own, len(ids) - 1))
        assert_near(new, expected)

    def test_rule_on_one_sequence_leaves_the_other_bit_identical(self, model):
        ids = torch.tensor([model.encode_text(t).ids for t in ("wood floats", "stone sinks")])
        pathway = moved(model.pathway("stone sinks"), layers=(2,))
        with torch.no_grad():
            base = model.model(ids).logits
            with intercepted(model.sites, everyone(pathway.weights, pathway.own, ids.numel(), ids.numel() - 1)):
                new = model.model(ids).logits
        assert torch.equal(new[0], base[0])
        assert not torch.equal(new[1], base[1])

    @pytest.mark.parametrize("rows", [None, torch.tensor([0, 2])])
    def test_more_experts_than_the_model_uses_can_be_mixed(self, model, rows):
        hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        index, own = torch.tensor([[0, 1]]).expand(3, -1), torch.full((3, 2), 0.5)
        n = 3 if rows is None else len(rows)
        six, weights = torch.arange(6).expand(n, -1), torch.linspace(0, 1, 6).expand(n, -1)
        experts = model.sites[0].experts
        with torch.no_grad():
            with intercepted(model.sites[:1], lambda *_: Change(rows, six, weights)):
                mixed = experts(hidden, index, own)
            one_hot = [experts(hidden, torch.full((3, 1), e), torch.ones(3, 1)) for e in range(6)]
            base = experts(hidden, index, own)
        expected = sum(w * out for w, out in zip(weights[0], one_hot, strict=True))
        changed = [0, 1, 2] if rows is None else [0, 2]
        torch.testing.assert_close(mixed[changed], expected[changed], atol=1e-5, rtol=1e-5)
        assert rows is None or torch.equal(mixed[1], base[1])


class TestGradients:
    @pytest.mark.parametrize("supported", [True, False])
    def test_reach_every_supported_expert(self, model, supported):
        ids = model.encode_text(TEXT).ids
        own = model.pathway(TEXT).weights
        omega = own.clone().requires_grad_()
        support = torch.zeros(1, 3, 8, dtype=torch.bool)
        support[:, 1:, :6] = supported
        active = torch.tensor([[False, True, True]])
        rule = everyone(omega, own, len(ids), len(ids) - 1, active=active, support=support)
        with intercepted(model.sites, rule):
            new = logits(model.model, ids)
        assert_near(new.detach(), logits(model.model, ids))
        (gradient,) = torch.autograd.grad(new[-1].log_softmax(-1)[5], omega)
        reached = (own > 0) | support[0]
        assert (gradient[1:][reached[1:]] != 0).all()
        assert (gradient[1:][~reached[1:] & ~(own[1:] > 0)] == 0).all()
        assert (gradient[0] == 0).all(), "the layer does not act"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_equal_finite_differences(self, family):
        model = tiny_moe(family).double()
        model.set_experts_implementation("eager")
        routed = RoutedModel(model, tiny_tokenizer())
        ids = routed.encode_text(TEXT).ids
        own = routed.pathway(TEXT).weights.double()
        weights = moved(routed.pathway(TEXT), layers=(0, 1, 2)).weights.double()

        def loss(omega):
            with intercepted(routed.sites, everyone(omega, own, len(ids), len(ids) - 1)):
                return -logits(model, ids)[-1].log_softmax(-1)[7]

        omega = weights.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(omega), omega)
        epsilon = 1e-3  # norms run in single precision whatever the model's
        with torch.no_grad():
            for at in [(0, 0), (0, 5), (1, 3), (2, 7)]:
                step = torch.zeros_like(weights)
                step[at] = epsilon
                slope = (loss(weights + step) - loss(weights - step)) / (2 * epsilon)
                assert gradient[at].item() == pytest.approx(slope.item(), rel=2e-3, abs=2e-4)


class TestTopK:
    def test_keeps_the_largest_with_the_mass(self, model):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT))
        with (
            torch.no_grad(),
            intercepted(model.sites, everyone(pathway.weights, pathway.own, len(ids), len(ids) - 1, top_k=3)),
        ):
            new = logits(model.model, ids)
        kept = pathway.weights >= pathway.weights.sort(-1).values[:, -3:-2]
        cut = pathway.weights * kept
        cut = cut * pathway.weights.sum(-1, keepdim=True) / cut.sum(-1, keepdim=True)
        with torch.no_grad():
            expected = logits(model.model, ids, along(cut, pathway.own, len(ids) - 1))
        assert_near(new, expected)


class TestRestoring:
    def test_after_an_exception_in_the_block(self, model):
        ids = model.encode_text(TEXT).ids
        pathway = moved(model.pathway(TEXT))
        rule = everyone(pathway.weights, pathway.own, len(ids), len(ids) - 1)
        with torch.no_grad():
            base = logits(model.model, ids)
            with pytest.raises(KeyboardInterrupt), intercepted(model.sites, rule):
                raise KeyboardInterrupt(logits(model.model, ids))
            assert_pristine(model.model)
            assert torch.equal(logits(model.model, ids), base)

    def test_after_an_exception_in_the_rule(self, model):
        def broken(position, index, weights):
            if position == 1:
                raise ZeroDivisionError
            return

        ids = model.encode_text(TEXT).ids
        with torch.no_grad():
            base = logits(model.model, ids)
            with pytest.raises(ZeroDivisionError), intercepted(model.sites, broken):
                logits(model.model, ids)
            assert_pristine(model.model)
            assert torch.equal(logits(model.model, ids), base)

    def test_hooks_that_never_fire_are_an_error(self, model):
        with pytest.raises(ModelError, match="no hook fired"), intercepted(model.sites, lambda *_: None):
            pass
        assert_pristine(model.model)

    def test_a_layer_whose_hooks_do_not_fire_is_an_error(self, model):
        sites = (*model.sites[:2], replace(model.sites[2], experts=torch.nn.Identity()))
        with pytest.raises(ModelError, match=r"no hook fired in layers \[2\]"), intercepted(sites, lambda *_: None):
            logits(model.model, model.encode_text(TEXT).ids)


class TestRefusing:
    def test_experts_without_a_router(self):
        model = tiny_moe("olmoe")
        mlp = model.model.layers[1].mlp
        del mlp.gate
        with pytest.raises(ModelError, match=r"layer 1 of OlmoeForCausalLM have no router .* \(gate, router\)"):
            find_sites(model)

    def test_router_of_another_width(self):
        model = tiny_moe("olmoe")
        gate = model.model.layers[1].mlp.gate
        gate.register_forward_hook(lambda module, args, output: (output[0][:, :1], *output[1:]))
        with pytest.raises(ModelError, match=r"MoE layer 1 of OlmoeForCausalLM gave .* scores \(2, 1\): its routing"):
            find_sites(model)

    def test_model_that_cannot_run(self):
        model = tiny_moe("olmoe")
        del model.model.layers[2].mlp.gate.weight
        with pytest.raises(ModelError, match=r"got none of model.embed_tokens, which is on the meta device; load"):
            find_sites(tiny_moe("olmoe").to("meta"))
        with pytest.raises(ModelError, match=r"OlmoeForCausalLM cannot run two tokens: AttributeError: .*weight"):
            find_sites(model)
        assert_pristine(model)


class TestLastChoiceOfZayaIsNoExpert:
    @pytest.mark.parametrize("rule", ["ban:8", "force:8", "bias:8=+3", "a pathway", "a change"])
    def test_rules_that_name_it_are_refused(self, rule):
        model = routed_model("zaya")
        made = {"a pathway": at_the_last_choice(model), "a change": to_the_last_choice}
        routing = made.get(rule) or rule_named(rule)
        with pytest.raises((SettingError, ShapeError), match="from 0 to 7"):
            model.forward("one two three", routing=routing)
        assert_pristine(model.model)

    def test_routes_that_name_it_are_refused_and_the_model_s_own_replay(self):
        model = routed_model("zaya")
        ids = model.tokenizer("one two three four five", return_tensors="pt").input_ids
        own = read_routing(model.model, {"input_ids": ids})
        routes = own.experts
        with replaying(model.model, routes, own.weights):
            again = model.model(ids, use_cache=False).logits
        assert_near(again, model.model(ids, use_cache=False).logits, by=1e-5)
        with pytest.raises(ShapeError, match="from 0 to 7"), replaying(model.model, routes * 0 + 8):
            model.model(ids, use_cache=False)


def at_the_last_choice(model):
    own = model.pathway("one two three", kind="weights")
    return replace(own, router=torch.zeros_like(own.router).index_fill(-1, torch.tensor([8]), 1.0))


def to_the_last_choice(routing):
    return Change(None, torch.full_like(routing.index, 8), routing.weights)
