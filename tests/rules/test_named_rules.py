"""Rules by name: their text, what they refuse, and the family's own router with the same change made inside."""

import json
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from models.families.checks import model_of
from routing.inside_routers import inside

from c3po_adaptive import ModelError, NamedRule, Question, SettingError, UnknownNameError, hookimpl, rule_named
from c3po_adaptive.models.family_table import families
from c3po_adaptive.models.traced import record, replay
from c3po_adaptive.registry import new_registry
from c3po_adaptive.rules import Ban, Bias, Force, Temperature, Then, TopK, _layers
from c3po_adaptive.rules.planned import check_planned
from c3po_adaptive.rules.text import numbers
from c3po_adaptive.testing import RuleContract

TEXT = "Which object can float on water?"
STYLES = (
    "olmoe",
    "mixtral",
    "qwen3_moe",
    "deepseek_v2",
    "deepseek_v3",
    "glm4_moe",
    "gpt_oss",
    "ernie4_5_moe",
    "llama4_text",
)
"""Families whose routers choose and weigh differently: softmax or sigmoid, over all or among the chosen; groups."""
OWN_WAYS = {"deepseek_v4": "a hash of the token", "inkling_text": "shared experts", "phimoe": "a sparse mixer"}
"""Families that no such rule is for, and what has a say in their routing beside router scores."""


@cache
def shared(family):
    return model_of(family)


def ids_of(model):
    return torch.tensor([model.encode_text(TEXT).ids])


def along(model, text):
    return model.forward(TEXT, rule_named(text)).logits[0]


@torch.no_grad()
def by_the_family(model, change):
    with inside(model, change):
        return model.model(ids_of(model), use_cache=False).logits[0]


def added(experts, by, layers=None):
    def change(scores, position):
        if layers is not None and position not in layers:
            return scores
        return scores + by * torch.zeros(scores.shape[-1]).index_fill(0, torch.tensor(experts), 1.0)

    return change


class TestText:
    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("ban:3,5@16-20", Ban((3, 5), layers="16-20")),
            ("ban:3/5@16-20", Ban((3, 5), layers="16-20")),
            (" ban: 0-2 ", Ban((0, 1, 2))),
            ("force:2@last-5", Force((2,), layers="last-5")),
            ("top-k:1", TopK(1)),
            ("top_k:1", TopK(1)),
            ("bias:3=+2.5", Bias((3,), 2.5)),
            ("bias:3/7-8=-1@16/18", Bias((3, 7, 8), -1, layers="16/18")),
            ("temperature:0.5", Temperature(0.5)),
            ("top-k:1;ban:3", Then(TopK(1), Ban((3,)))),
            (["top-k:1", "ban:3;bias:1=2"], Then(TopK(1), Then(Ban((3,)), Bias((1,), 2)))),
            ({"name": "ban", "experts": [3, 5]}, Ban((3, 5))),
            (TopK(2), TopK(2)),
        ],
        ids=str,
    )
    def test_names_a_rule(self, text, rule):
        assert rule_named(text) == rule

    def test_is_made_again_from_what_records_hold(self):
        registry, rule = new_registry(), rule_named("ban:3,5@16-20;top-k:1;bias:3=+2.5")
        assert registry.create("rule", json.loads(json.dumps(registry.describe(rule)))) == rule
        assert TopK(1) + Ban((3,)) == rule_named("top-k:1;ban:3")

    @pytest.mark.parametrize(
        ("text", "error", "said"),
        [
            ("bann:3", UnknownNameError, "a rule, got 'bann'; did you mean 'ban'.*There are ban, .*e, top-k\\."),
            ("ban:3,x", SettingError, "experts of rule 'ban' as numbers such as 3, 3,5 or 0-7, got '3,x'"),
            ("ban:5-3", SettingError, "got '5-3'"),
            ("ban", SettingError, "rule 'ban' with experts, got no experts; write ban:…"),
            ("ban:", SettingError, "got 'ban:'"),
            ("ban:3@", SettingError, "got 'ban:3@'"),
            ("ban:3@first", SettingError, "layers of rule 'ban' as all, last-5, or numbers .*, got 'first'"),
            ("5@16-20", SettingError, "where commas part arguments, put / between numbers: 3/5"),
            ("", SettingError, "Expected a rule such as ban:3,5@16-20"),
            ("top-k:1;", SettingError, "got '' in 'top-k:1;'"),
            ("top-k:0", SettingError, "top-k.k to be a whole number >= 1, got 0"),
            ("top-k:1.5", SettingError, "top-k.k to be a whole number >= 1, got 1.5"),
            ("bias:3", SettingError, "experts=number, got '3'; write bias:3=\\+2.5"),
            ("bias:3=much", SettingError, "bias.by to be a finite number .*, got 'much'"),
            ("bias:3=nan", SettingError, "bias.by to be a finite number"),
            ("bias:3=1e39", SettingError, r"by to be a finite number >= -3.40282e.38 and <= 3.40282e.38, got 1e.39"),
            ("temperature:0", SettingError, "temperature.value to be a finite number > 0"),
            ("temperature:1e39", SettingError, "a finite number > 0 and <= 3.40282e.38, got 1e.39"),
            ("then:3", SettingError, "got 'then', which joins two; write these with ; between them"),
            ([], SettingError, r"Expected a rule such as ban:3.*; got \[\]; write it so"),
            (3, SettingError, "Expected a rule such as ban:3,5@16-20.*; got 3; did you mean 'ban:3'?"),
            ({"experts": 3}, SettingError, "Expected a rule as a name, a mapping"),
            ({"name": "ban", "experts": [3, 3]}, SettingError, "different numbers from 0 on, got \\(3, 3\\)"),
            ("ban:0,0", SettingError, "different numbers from 0 on, got \\(0, 0\\)"),
            ("ban:0-2/1@5", SettingError, "different numbers from 0 on, got \\(0, 1, 2, 1\\)"),
            ("ban:3@5/4-6", SettingError, "each layer of rule 'ban' once, got '5/4-6'"),
            ({"name": "ban", "experts": [-1]}, SettingError, "different numbers from 0 on"),
            ({"name": "ban", "experts": [3], "layers": 16}, SettingError, "layers of rule 'ban' as all"),
        ],
        ids=str,
    )  # fmt: skip
    def test_that_is_no_rule_is_refused(self, text, error, said):
        with pytest.raises(error, match=said):
            rule_named(text)


class TestModel:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("ban:3@7", "layers of rule 'ban' among the MoE layers 0, 1, 2, got 7; take some of these, or last-3"),
            ("ban:3@last-4", "rule 'ban' in at most 3 MoE layers, got 'last-4'"),
            ("ban:3,8", "experts of rule 'ban' from 0 to 7, as each layer has 8, got 8"),
            ("force:9", "experts of rule 'force' from 0 to 7"),
            ("bias:9=1", "experts of rule 'bias' from 0 to 7"),
            ("top-k:9", "top-k.k of at most 8"),
            ("ban:0-6", "at least 2 experts left in MoE layer 0, which each token uses, got 1: 7 of 8 are banned"),
            ("force:1,2,3", "at most 2 forced experts in MoE layer 0, as many as each token uses, got 3"),
            ("ban:3;force:3@1", r"got both for \[3\]"),
        ],
    )
    def test_that_lacks_what_is_named_is_refused(self, text, said):
        with pytest.raises(SettingError, match=said):
            along(shared("olmoe"), text)

    @pytest.mark.parametrize("text", ["ban:0-6@1", "ban:0-3;top-k:1;ban:4-7@1", "top-k:3;force:1-4@1"])
    def test_no_layer_is_left_without_the_experts_that_a_token_uses(self, text):
        """Told from numbers alone, as where a study is planned."""
        with pytest.raises(SettingError, match=r"at (least [21] experts left|most 3 forced experts) in MoE layer 1"):
            check_planned(rule_named(text), (0, 1), 8, 2)
        for sound in ("ban:0-3@0;ban:4-7@1", "ban:0-6;top-k:1", "force:1,2;temperature:0.5"):
            check_planned(rule_named(sound), (0, 1), 8, 2)

    def test_reads_where_it_acts_no_more_often_the_more_layers_there_are(self, monkeypatch):
        """At each layer, of each token, it is asked."""
        rule, read = rule_named("ban:3@0-47;top-k:1"), []
        monkeypatch.setattr(_layers, "numbers", lambda text: read.append(text) or numbers(text))
        check_planned(rule, tuple(range(48)), 8, 2)
        assert len(read) <= 4 * 48

    def test_fewer_experts_may_be_left_where_fewer_are_used(self):
        assert along(shared("olmoe"), "ban:0-6;top-k:1").isfinite().all()
        assert along(shared("olmoe"), "force:1,2,3;top-k:3").isfinite().all()


@pytest.mark.parametrize("family", [name for name, row in families().items() if "refused" not in row])
def test_a_bias_is_the_familys_own_router_with_other_scores(family):
    model = model_of(family)
    if family in OWN_WAYS:
        with pytest.raises(ModelError, match=r"by softmax or sigmoid of their router scores, but \w+ does otherwise"):
            along(model, "bias:3=1.5")
        return
    scale = getattr(
        model.sites[0].router, "output_multiplier", 1.0
    )  # muse_spark's scores are so many times its matrix'
    wanted = by_the_family(model, added([3], 1.5 / scale))
    assert (wanted - model.forward(TEXT).logits[0]).abs().max() > 1e-2, "it acts"
    torch.testing.assert_close(along(model, "bias:3=1.5"), wanted, atol=1e-3, rtol=1e-3)


class TestStyles:
    @pytest.fixture(params=STYLES)
    def model(self, request):
        return shared(request.param)

    def test_temperature(self, model):
        wanted = by_the_family(model, lambda scores, _: scores / 0.5)
        torch.testing.assert_close(along(model, "temperature:0.5"), wanted, atol=1e-4, rtol=1e-4)

    def test_in_some_layers(self, model):
        layer = model.layers[-1]
        wanted = by_the_family(model, added([3], 2.0, layers={len(model.layers) - 1}))
        for text in (f"bias:3=2@{layer}", "bias:3=2@last-1", f"bias:3=1@{layer};bias:3=1@last-1"):
            torch.testing.assert_close(along(model, text), wanted, atol=1e-4, rtol=1e-4)

    def test_in_order(self, model):
        wanted = by_the_family(model, lambda scores, p: added([3], 2.0)(scores, p) / 0.5)
        torch.testing.assert_close(along(model, "bias:3=2;temperature:0.5"), wanted, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(along(model, "temperature:0.5;bias:3=2"), wanted, atol=1e-2)

    @pytest.mark.parametrize("k", [1, 3])
    def test_top_k(self, model, k, monkeypatch):
        found = along(model, f"top-k:{k}")
        for site in model.sites:
            monkeypatch.setattr(site.router, "top_k", k)
        with torch.no_grad():
            wanted = model.model(ids_of(model), use_cache=False).logits[0]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)

    def test_banned_experts_are_never_used(self, model):
        assert not torch.isin(record(model, TEXT, rule=rule_named("ban:2,5")).experts, torch.tensor([2, 5])).any()

    def test_forced_experts_always_are(self, model):
        trace = record(model, TEXT, rule=rule_named("force:1"))
        assert (trace.experts[:-1] == 1).any(-1).all()

    def test_generation_and_scores_follow_it(self, model):
        rule = rule_named("ban:2,5;bias:1=1.5")
        question = Question("q", TEXT, ("a stone", "a wooden boat"))
        scores = model.score_choices(question, routing=rule)
        assert (scores - model.score_choices(question)).abs().max() > 1e-3
        (alone,) = model.likelihoods([model.encode(question)], rule)
        lengths = torch.tensor(model.encode(question).lengths)
        torch.testing.assert_close(alone.total.float() / lengths, scores, atol=1e-4, rtol=1e-4)
        text = model.generate(TEXT, rule, max_new_tokens=5, do_sample=False)
        trace = record(model, TEXT, generate=5, rule=rule)
        ids = trace.tokens[ids_of(model).shape[1] :].tolist()
        assert model.tokenizer.decode(ids, skip_special_tokens=True) == text


class TestBan:
    @pytest.mark.parametrize("family", ["olmoe", "mixtral", "gpt_oss", "deepseek_v2", "jamba"])
    def test_is_a_router_that_has_no_such_experts(self, family):
        wanted = by_the_family(shared(family), added([2, 5], -1e9))
        torch.testing.assert_close(along(shared(family), "ban:2,5"), wanted, atol=1e-4, rtol=1e-4)

    def test_where_a_bias_has_its_say_in_the_choice(self, monkeypatch):
        """Sigmoid weights are not those of a softmax: those that are left keep theirs."""
        model = model_of("deepseek_v3", n_group=1)
        found = along(model, "ban:2,5")
        for site in model.sites:
            site.router.e_score_correction_bias[[2, 5]] = -1e4
        with torch.no_grad():
            torch.testing.assert_close(
                found, model.model(ids_of(model), use_cache=False).logits[0], atol=1e-4, rtol=1e-4
            )


class TestSelectionBias:
    """Of routers that choose by score and bias, and weigh by score alone."""

    @pytest.mark.parametrize(
        "family", ["deepseek_v3", "glm4_moe", "ernie4_5_moe", "minimax_m2", "afmoe", "longcat_flash"]
    )
    def test_has_its_say(self, family):
        model = model_of(family)
        biases = [t for n, t in model.model.named_buffers() if n.endswith("bias") and t.numel() == model.n_experts]
        biases += [
            p.data for n, p in model.model.named_parameters() if n.endswith("_bias") and p.numel() == model.n_experts
        ]
        assert biases
        plain = along(model, "bias:3=1.5")
        for i, bias in enumerate(biases):
            bias += 0.3 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(i))
        found = along(model, "bias:3=1.5")
        torch.testing.assert_close(found, by_the_family(model, added([3], 1.5)), atol=1e-3, rtol=1e-3)
        assert not torch.allclose(found, plain, atol=1e-2)


class TestGroups:
    def test_the_best_alone_are_looked_at(self):
        model = shared("deepseek_v3")
        router = model.sites[-1].router
        assert (router.num_group, router.topk_group) == (2, 1)
        trace = record(model, TEXT, rule=rule_named("ban:0"))
        assert (trace.experts[:-1] // 4).float().std(-1).eq(0).all(), "both experts are of one group"

    def test_that_hold_too_few_are_followed_by_others(self):
        trace = record(shared("deepseek_v3"), TEXT, rule=rule_named("top-k:6"))
        assert trace.experts.shape[-1] == 6
        assert along(shared("deepseek_v3"), "top-k:6").isfinite().all()

    def test_of_a_softmax(self):
        """DeepSeek-V2 in its own way: a group counts by its best expert."""
        settings = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
        model = model_of("deepseek_v2", **settings)
        torch.testing.assert_close(
            along(model, "bias:3=1.5"), by_the_family(model, added([3], 1.5)), atol=1e-4, rtol=1e-4
        )


class TestForce:
    def test_weighs_by_the_experts_own_score(self):
        model = shared("olmoe")
        found = []

        def watching(routing):
            change = rule_named("force:1")(routing)
            found.append((routing.logits.softmax(-1).gather(1, change.index), change))
            return change

        model.forward(TEXT, watching)
        for probabilities, change in found:
            assert (change.index == 1).any(-1).all()
            torch.testing.assert_close(change.weights, probabilities, atol=1e-5, rtol=1e-4)

    def test_keeps_the_mass_where_a_layer_renormalizes(self):
        model, sums = shared("deepseek_v3"), []

        def watching(routing):
            change = rule_named("force:1;top-k:3")(routing)
            sums.append((routing.weights.sum(-1), change.weights.sum(-1)))
            return change

        model.forward(TEXT, watching)
        for own, new in sums:
            torch.testing.assert_close(own, new, atol=1e-5, rtol=1e-5)


class TestLeftAlone:
    def test_layers_that_are_not_named_stay_bit_for_bit(self):
        model = shared("olmoe")
        own, ruled = record(model, TEXT), record(model, TEXT, rule=rule_named("top-k:1@1"))
        assert torch.equal(own.experts[:, 0], ruled.experts[:, 0])
        assert torch.equal(own.weights[:, 0], ruled.weights[:, 0])
        assert not torch.equal(own.weights[:, 1], ruled.weights[:, 1])

    def test_a_rule_that_is_called_within_a_rule(self):
        """It needs nothing but the layer that it is asked at."""
        model, named = shared("olmoe"), rule_named("ban:3@last-2")
        assert torch.equal(
            model.forward(TEXT, lambda routing: named(routing)).logits, model.forward(TEXT, named).logits
        )


class TestTraces:
    @pytest.mark.parametrize("text", ["top-k:1", "top-k:1@1", "ban:3;top-k:4@2", "force:1;temperature:2"])
    def test_of_a_rule_replay_as_it_ran(self, text):
        model = shared("olmoe")
        rule = rule_named(text)
        trace = record(model, TEXT, rule=rule)
        tokens = model.encode_text(TEXT).ids
        logits = model.forward(TEXT, rule).logits[0, :-1].log_softmax(-1)
        wanted = logits.gather(1, torch.tensor(tokens[1:])[:, None]).squeeze(1)
        torch.testing.assert_close(replay(model, trace), wanted, atol=1e-4, rtol=1e-4)

    def test_places_of_fewer_experts_are_filled_up_at_weight_zero(self):
        trace = record(shared("olmoe"), TEXT, rule=rule_named("top-k:1@1;top-k:3@2"))
        assert trace.experts.shape[-1] == 3
        assert (trace.weights[:-1] > 0).sum(-1).unique(dim=0).tolist() == [[2, 1, 3]]
        assert record(shared("olmoe"), TEXT, rule=rule_named("top-k:1")).experts.shape[-1] == 1


@dataclass(frozen=True)
class Sharper(NamedRule):
    """Scores times a factor."""

    factor: float = 2.0
    name: ClassVar[str] = "sharper"

    def edit(self, choice):
        return replace(choice, scores=choice.scores * self.factor)


@dataclass(frozen=True)
class Still(NamedRule):
    """Nothing is changed."""

    name: ClassVar[str] = "still"

    def edit(self, choice):
        return choice


class TestPlugins:
    def test_bring_rules_by_name(self):
        registry = new_registry(installed=False)
        registry.register(SimpleNamespace(register_rules=hookimpl(lambda: [Sharper])), "mine")
        assert rule_named("sharper", registry) == Sharper()
        assert rule_named("sharper:4@last-1;top-k:1", registry) == Then(Sharper(4, layers="last-1"), TopK(1))
        model = shared("olmoe")
        torch.testing.assert_close(
            model.forward(TEXT, rule_named("sharper:4", registry)).logits[0], along(model, "temperature:0.25")
        )

    def test_a_rule_without_parameters_takes_none(self):
        registry = new_registry(installed=False)
        registry.register(SimpleNamespace(register_rules=hookimpl(lambda: [Still])), "mine")
        with pytest.raises(SettingError, match="Expected nothing behind the name of rule 'still', got '3'"):
            rule_named("still:3", registry)
        model = shared("olmoe")
        assert torch.equal(model.forward(TEXT, rule_named("still", registry)).logits, model.forward(TEXT).logits)


class TestKeepsTheContract(RuleContract):
    """Two rules together are a rule, and one may be for layers that the toy has not; each by itself keeps the contract
    in ``tests/testing/test_findings.py``.
    """

    @pytest.fixture(
        params=["ban:3,5;top-k:2", "force:1;bias:2=3;temperature:0.3", "top-k:1@last-1;ban:4", "top-k:1@16-20"]
    )
    def rule(self, request):
        return rule_named(request.param)
