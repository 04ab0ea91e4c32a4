"""Whole prompts in one piece, against naive full forwards: scores, gradients, and what they cost."""

from dataclasses import replace

import pytest
import torch
from rounding import assert_near
from routing.naive import FAMILIES, assert_pristine, choice_scores, routed_model, shared_model
from routing.test_flops import counted
from routing.toys import questions

from c3po_adaptive.errors import SettingError
from c3po_adaptive.routing.packing import pack
from c3po_adaptive.routing.whole_prompts import PromptPrefix, WholePrompts
from c3po_adaptive.types import Prompt

PROMPT = Prompt((4, 5, 6), options=((7, 8, 9), (7,), (1, 2)), lengths=(3.0, 1.0, 2.0))
LAYOUTS = (*FAMILIES, "qwen3_next")  # the last one knows no trees


def prompts_of(model, count=5):
    return [model.encode(question) for question in questions(count)]


def test_a_tree_with_all_of_its_prompt():
    packed = pack(PROMPT, "tree", whole=True)
    assert packed.tokens.tolist() == [[4, 5, 6, 7, 8, 1]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert packed.visible.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    assert packed.row.tolist() == [2, 3, 4, 2, 2, 5]
    assert (packed.past, packed.acting, packed.rows) == (0, 2, 6)


@pytest.mark.parametrize("family", LAYOUTS)
@pytest.mark.parametrize("start", [0, 1, 2])
@torch.no_grad()
def test_scores_are_those_of_full_forwards(family, start):
    model = shared_model(family)
    prompts = prompts_of(model)
    whole = WholePrompts(model.model, model.flops, start)
    for _ in range(2):  # what enters layer ``start`` is kept from the first time on
        scores = whole.scores(prompts)
        for prompt, row in zip(prompts, scores, strict=True):
            expected = choice_scores(model.model, prompt)
            assert_near(row[: len(expected)], expected)
            assert (row[len(expected) :] == -torch.inf).all()
    assert_near(whole.scores(prompts[3:4])[0], scores[3, : len(prompts[3].options)])
    assert_pristine(model.model)


@pytest.mark.parametrize("family", LAYOUTS)
@pytest.mark.parametrize("start", [0, 1])
@torch.no_grad()
def test_routing_of_last_tokens_is_read_in_the_same_run(family, start):
    model = shared_model(family)
    prompts, layers = prompts_of(model), model.layers[1:]
    whole = model.whole_prompts(start)
    scores, routers = whole.routed_scores(prompts, layers)
    assert torch.equal(scores, whole.scores(prompts))
    expected = torch.stack([state.router for state in model.prefill(prompts)])
    assert_near(routers, expected[:, [model.layers.index(layer) for layer in layers]])
    assert_pristine(model.model)
    for wrong in ((), (99,), *([model.layers[:1]] if start else [])):
        with pytest.raises(SettingError, match=r"layers with routers among \["):
            whole.routed_scores(prompts, wrong)


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("family", LAYOUTS)
def test_gradients_are_those_of_full_forwards(family, start):
    """Of a router and of a norm in the last layer."""
    model = routed_model(family)
    prompts, layer = prompts_of(model, 2), model.model.get_decoder().layers[2]
    trained = [layer.mlp.gate.weight.requires_grad_(), layer.input_layernorm.weight.requires_grad_()]
    scores = WholePrompts(model.model, model.flops, start).scores(prompts)
    found = torch.autograd.grad(scores[scores.isfinite()].sum(), trained)
    naive = sum(choice_scores(model.model, prompt).sum() for prompt in prompts)
    for a, b in zip(found, torch.autograd.grad(naive, trained), strict=True):
        assert b.abs().max() > 1e-4
        assert_near(a, b, by=1e-3)  # qwen3_next's states are products of many tokens' factors


class TwoTokens(PromptPrefix):
    """As tokens before the prompt's own, which pass the layers, or as their keys and values alone."""

    def __init__(self, seen):
        self.seen, self.ids = seen, torch.tensor([[4, 5]])

    def lengths(self, prompt):
        return (0, 2) if self.seen else (2, 0)

    def read(self, model, tokens):
        begun = self.ids.expand(len(tokens), -1)
        if self.seen:
            return {"input_ids": tokens}, model.get_decoder()(begun, use_cache=True).past_key_values
        assert not tokens[:, :2].any()
        return {"input_ids": torch.cat([begun, tokens[:, 2:]], 1)}, None


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_prompts_begin_with_what_is_said(family, seen):
    model = shared_model(family)
    whole, opening, prompts = model.whole_prompts(), TwoTokens(seen), prompts_of(model)
    for prompt, row in zip(prompts, whole.scores(prompts, opening), strict=True):
        longer = replace(prompt, ids=(4, 5, *prompt.ids))
        assert_near(row[: len(prompt.options)], choice_scores(model.model, longer))
        assert whole.work(prompt).flops < whole.work(prompt, opening).flops <= whole.work(longer).flops
    longer = [replace(prompt, ids=(4, 5, *prompt.ids)) for prompt in prompts]
    routers = whole.routed_scores(prompts, model.layers, opening)[1]
    assert_near(routers, torch.stack([state.router for state in model.prefill(longer)]))


class TestCost:
    @pytest.fixture(params=FAMILIES)
    def model(self, request):
        model = routed_model(request.param, attn_implementation="eager", hidden_size=64, num_hidden_layers=6)
        model.model.set_experts_implementation("eager")
        return model

    def test_a_pass_costs_what_a_plain_answer_costs(self, model):
        for prompt in prompts_of(model):
            whole = WholePrompts(model.model, model.flops)
            assert whole.work(prompt).flops == pytest.approx(model.plain_work(prompt).flops)
            for start in (1, 2):
                part = WholePrompts(model.model, model.flops, start)
                both = part.work_once(prompt).flops + part.work(prompt).flops
                assert both == pytest.approx(whole.work(prompt).flops)

    def test_a_step_costs_what_is_counted_as_it_runs(self, model):
        """The first layer's own backward pass is partly spared, which is not counted out."""
        (prompt,) = prompts_of(model, 1)
        for start in (0, 2):
            routers = [layer.mlp.gate.weight.requires_grad_() for layer in model.model.get_decoder().layers[start:]]
            whole = WholePrompts(model.model, model.flops, start)
            with torch.no_grad():
                whole.scores([prompt])
            total, _ = counted(lambda w=whole, r=routers: torch.autograd.grad(w.scores([prompt]).sum(), r))
            model.model.requires_grad_(False)
            expected = whole.work(prompt, trained=sum(r.numel() for r in routers)).flops
            assert total <= expected <= 1.25 * total
