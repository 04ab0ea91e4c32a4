"""Every MoE family of transformers, against the table that the package ships."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers
from models.families.checks import CLOSE, PROMPTS, checked, model_of, moe_families, moved, naive, tried

from c3po_adaptive import read_routing, replaying
from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.family_table import ABILITIES, families, table
from c3po_adaptive.models.footprint import footprint
from c3po_adaptive.models.loading import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.routing.dense_experts import DENSE, can_run_densely
from c3po_adaptive.routing.sites import find_sites
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, write_tiny_checkpoint

NAMED = [
    *("olmoe", "deepseek", "flex_olmo", "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next"),
    *("deepseek_v2", "deepseek_v3"),
    *("glm4_moe", "gpt_oss", "phimoe", "dbrx", "granitemoe", "jamba", "llama4_text", "ernie4_5_moe", "hunyuan_v1_moe"),
    *("dots1", "minimax_m2", "lfm2_moe", "jetmoe"),
]
SCORING = dict.fromkeys(("deepseek_v3", "glm4_moe", "llama4_text", "dots1", "minimax_m2", "lfm2_moe"), "sigmoid")
EAGER_ONLY = {"dbrx", "llama4_text", "jetmoe"}  # transformers computes their experts in one way
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [2.0] * 4,
    "short_mscale": 1.0,
    "long_mscale": 1.0,
    "original_max_position_embeddings": 16,
}
KNOWN = families()
row = cache(tried)


def works(family):
    return all(row(family).get(ability) is True for ability in ABILITIES)


@pytest.mark.parametrize("family", moe_families())
def test_works_or_says_why(family):
    """Against the table, if it was made with this release; ``python tests/models/families/checks.py`` writes it."""
    if transformers.__version__ == table()["transformers"]:
        assert row(family) == KNOWN[family]
    if not works(family):
        reasons = [v for v in row(family).values() if isinstance(v, str)]
        assert any(len(reason) > 20 for reason in reasons)


def test_most_families_work():
    working = {family for family in moe_families() if works(family)}
    known = transformers.__version__ == table()["transformers"]
    assert len(working) >= (50 if known else 45)  # an older release has fewer
    assert set(NAMED) <= working


@pytest.mark.parametrize("family", ["glm4v_moe", "mistral_large4", "qwen3_vl_moe", "step3p7"])
def test_language_models_that_read_images_are_loaded_from_a_checkpoint(family, tmp_path):
    """Of transformers #48911's 17 families step3p7 is the one that has no causal language model of its own."""
    model = load_moe_model(write_tiny_checkpoint(tmp_path, family))
    for check in checked():
        check(model)
    assert footprint(model.model.config).parameters == model.model.num_parameters()
    found = read_routing(model, ["Boats float", "So"])
    assert found.logits.shape[2:] == (len(model.layers), 8) and found.logits[found.real].isfinite().all()
    inputs = {"input_ids": found.tokens, "attention_mask": found.real.long(), "use_cache": False}
    trained = tiny_moe(family).requires_grad_(True).train()
    with replaying(trained, found.experts):
        trained(**inputs, labels=found.tokens).loss.backward()
    assert all(any(p.grad.any() for p in site.router.parameters()) for site in find_sites(trained))


def close(scores, expected):
    """In bfloat16 a router may choose anew for a rounding error: most of the scores agree."""
    assert ((scores - expected).abs() <= 0.3 + 0.03 * expected.abs()).float().mean() > 0.6


@pytest.mark.parametrize("family", NAMED)
class TestNamed:
    def test_from_a_checkpoint_on_disk(self, family, tmp_path):
        found = load_moe_model(write_tiny_checkpoint(tmp_path, family)).model.state_dict()
        expected = tiny_moe(family).state_dict()
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)

    def test_router_is_understood(self, family):
        """Among the experts that are used, weights are in the proportion that the router's probabilities have."""
        model = model_of(family)
        assert {site.scoring for site in model.sites} == {SCORING.get(family, "softmax")}
        if family == "phimoe":  # a sparse mixer: each choice has a softmax of its own, without what is far below it
            return
        for state in model.prefill(PROMPTS):
            used = state.own > 0
            share = state.router * used
            torch.testing.assert_close(
                state.own / state.own.sum(-1, keepdim=True), share / share.sum(-1, keepdim=True), atol=1e-4, rtol=1e-3
            )
            torch.testing.assert_close(state.router.sum(-1), torch.ones(len(state.router)))

    def test_router_reads_what_is_kept(self, family):
        if family in ("minimax_m2", "lfm2_moe"):
            pytest.skip("its router takes a bias beside, which the block hands it")
        model = model_of(family)
        for state in model.prefill(PROMPTS):
            for i, site in enumerate(model.sites):
                again = site.probabilities(site.router(state.router_input[i][None]))[0]
                torch.testing.assert_close(again, state.router[i], atol=1e-5, rtol=1e-4)

    def test_in_bfloat16(self, family, tmp_path):
        model = load_moe_model(write_tiny_checkpoint(tmp_path, family), dtype="bfloat16")
        states = model.prefill(PROMPTS)
        own = torch.stack([s.own for s in states])
        base, other = model.choice_scores(states), model.choice_scores(states, moved(model, own))
        for i, (a, b) in enumerate(zip(base, other, strict=True)):
            assert not torch.equal(a, b)
            close(a, naive(model, states[i]))
            close(b, naive(model, states[i], moved(model, own)[[i]]))

    def test_flops_know_the_experts(self, family):
        model = model_of(family)
        assert all(model.flops.expert[layer] > 0 for layer in model.layers)

    def test_experts_computed_in_other_ways(self, family):
        model = model_of(family)
        if family in EAGER_ONLY:
            with pytest.raises(ValueError, match="does not support setting experts implementation"):
                model.model.set_experts_implementation("grouped_mm")
            return
        scores = []
        ways = ["eager", "batched_mm", "grouped_mm"] + [DENSE] * all(map(can_run_densely, model.sites))
        for implementation in ways:
            model.model.set_experts_implementation(implementation)
            (state,) = model.prefill(PROMPTS[:1], keep=False)
            pathway = moved(model, state.own[None])
            scores.append(model.choice_scores([state], pathway)[0])
            torch.testing.assert_close(scores[-1], naive(model, state, pathway), atol=1e-4, rtol=1e-4)
        for other in scores[1:]:
            torch.testing.assert_close(other, scores[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", NAMED)
def test_footprint_knows_the_structure_without_a_weight(family):
    """What ``c3po study plan`` checks arms by: where a configuration does not say it, nothing is checked."""
    model = model_of(family)
    found = footprint(model.model.config)
    assert found.layers == model.layers
    assert found.n_experts in (None, model.n_experts)
    assert found.top_k in (None, model.sites[0].top_k)
    assert 0 < found.flops_per_token <= 2 * found.parameters


def test_experts_that_are_called_in_a_loop_are_refused(tmp_path):
    """Models of transformers 4 and of remote code are like that."""
    tiny = tiny_moe("olmoe")
    for layer in tiny.model.layers:
        layer.mlp.experts = torch.nn.ModuleList([torch.nn.Linear(32, 32) for _ in range(8)])
    with pytest.raises(ModelError, match=r"OlmoeForCausalLM has no MoE layer .*separate modules, called in a loop"):
        find_sites(tiny)


def test_layers_of_different_width_are_refused():
    tiny = tiny_moe("olmoe")
    tiny.model.layers[1].mlp = tiny_moe("olmoe", num_experts=4).model.layers[1].mlp
    with pytest.raises(ModelError, match="OlmoeForCausalLM has MoE layers of 4 and 8 experts"):
        find_sites(tiny)


@pytest.mark.parametrize("family", ["olmoe", "longcat_flash"])
@torch.no_grad()
def test_one_expert_alone(family):
    if transformers.__version__ != table()["transformers"] and not works(family):
        pytest.skip("refused with this release of transformers")  # with the table's own release it must work
    model = model_of(family)
    states = model.prefill(PROMPTS[:2])
    pathway = replace(moved(model, torch.stack([s.own for s in states])), top_k=1)
    for state, a, b in zip(states, model.choice_scores(states, pathway), model.choice_scores(states), strict=True):
        assert a.isfinite().all(), state
        # most of longcat's experts are the identity: one is as good as another
        assert family == "longcat_flash" or not torch.equal(a, b)


@pytest.mark.parametrize(
    ("family", "settings", "length"),
    [
        ("phimoe", {"rope_parameters": LONG}, 16),
        ("olmoe", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}, 512),
        ("llama4_text", {"floor_scale": 64, "attn_temperature_tuning": True}, 63),
        ("olmoe", {}, 512),
    ],
)
def test_prompts_end_where_positions_would_depend_on_the_batch(family, settings, length):
    model = model_of(family, **settings)
    assert model.max_length == length
    model.generate("a boat", max_new_tokens=70)  # what is written goes on, up to the model's own context


def test_a_layer_that_is_run_twice_is_refused():
    model = tiny_moe("olmoe")
    layers = model.model.layers
    layers[2] = layers[1]
    with pytest.raises(ModelError, match="routed 2 times in one forward pass, once was expected"):
        find_sites(model)


@pytest.mark.parametrize("part", ["model", "experts"])
def test_compiled_before_it_was_loaded(part):
    """Hooks that come later than the compilation are seen (torch 2.13), or the error of hooks that never fire comes."""
    plain, tiny = model_of("olmoe"), tiny_moe("olmoe")
    experts = [layer.mlp.experts for layer in tiny.model.layers]
    try:
        for module in {"model": [tiny], "experts": experts}[part]:
            module.compile(backend="eager")
        with torch.no_grad():
            tiny(input_ids=torch.tensor([PROMPTS[0].ids]), use_cache=False)
        model = RoutedModel(tiny, tiny_tokenizer())
        states = model.prefill(PROMPTS[:2])
        pathway = moved(model, torch.stack([s.own for s in states]))
        found, expected = model.choice_scores(states, pathway), plain.choice_scores(states, pathway)
    finally:
        torch._dynamo.reset()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=CLOSE, rtol=CLOSE)


def test_experts_that_hooks_cannot_see_are_refused():
    tiny = tiny_moe("olmoe")
    block = tiny.model.layers[1].mlp

    def forward(hidden_states):
        rows = hidden_states.flatten(0, 1)
        _, weights, index = block.gate(rows)
        return block.experts.forward(rows, index, weights).view_as(hidden_states)

    block.forward = forward
    with pytest.raises(ModelError, match="MoE layer 1 of OlmoeForCausalLM routed 0 times"):
        RoutedModel(tiny, tiny_tokenizer())
