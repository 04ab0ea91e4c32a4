"""Families that read images: routing and scores are those of plain full forward passes with the pixels."""

from dataclasses import replace

import pytest
import torch
from models.pictured import QUESTIONS, choice_scores, edited, picture, read, routing_of, seeing
from rounding import assert_near
from routing.naive import SCOPES, along, assert_pristine, moved
from torch.nn.functional import pad
from torch.utils.flop_counter import FlopCounterMode

from c3po_adaptive import Change, Pathway, Question, read_routing
from c3po_adaptive.errors import ModelError, SettingError
from c3po_adaptive.models.family_table import image_families, no_images
from c3po_adaptive.models.provenance import stack_pathways
from c3po_adaptive.models.writing import SPARE
from c3po_adaptive.routing.head import head, likelihoods
from c3po_adaptive.routing.image_inputs import image_inputs_of
from c3po_adaptive.routing.prefill import prefill
from c3po_adaptive.routing.states import collate
from c3po_adaptive.routing.tail import tail_hidden

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of NumPy, in GLM-4V's processor
FAMILIES = ("qwen3_vl_moe", "mistral_large4")
"""One whose prompts are kept, with M-RoPE and DeepStack; and one whose tails are whole prompts."""
OTHERS = (
    *("aria", "deepseek_ocr2", "dots3_note", "gemma4", "glm4v_moe", "glm5_next", "hy_v4_vl", "inkling2"),
    *("inkling_mm_model", "kimi_k25", "llama4", "minimax_m3_vl", "muse_spark", "nemotron_h_omni", "qwen3_5_moe"),
    *("qwen3_omni_moe_thinker", "qwen4_exp", "step3p7", "unlimited_ocr"),
)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return seeing(request.param)


@pytest.mark.parametrize("family", OTHERS)
def test_every_other_family_in_short(family):
    model = seeing(family)
    test_the_prompt_is_the_processors(model)
    test_routing_is_read_at_text_and_image_tokens(model)
    test_likelihoods_are_those_of_full_forwards(model)
    test_changed_pathways_are_full_forwards_with_a_forced_router(model, "answer")
    if family == "gemma4":  # whose tokens of one picture see each other in both directions
        test_changed_pathways_are_full_forwards_with_a_forced_router(model, "all")
        prompt = model.encode(QUESTIONS[0])
        images = image_inputs_of(model.model, prompt)
        assert images.sees["sliding_attention"].triu(1).sum() == 6 and not images.sees["full_attention"].triu(1).any()
        with pytest.raises(ModelError, match="as tokens of a picture see each other, got sdpa attention"):
            prefill(model.model, model.sites, [prompt], model.flops, "rows", whole=True)
        tails_may_begin_inside_a_picture(model)


@torch.no_grad()
def tails_may_begin_inside_a_picture(model):
    """Of which no token is run before those that it sees."""
    acting = [int(p.extra.shown.nonzero()[1]) if p.extra else 4 for p in prompts(model)]
    asked = [replace(p, after=len(p.ids) - 1 - place) for p, place in zip(prompts(model), acting, strict=True)]
    states = model.prefill(asked)
    assert [state.packed.past for state in states] == [0, 4, 0]
    pathway = stack_pathways([moved(Pathway(s.own, s.own, model.layers), layers=(1, 2)) for s in states])
    found = zip(model.choice_scores(states), model.choice_scores(states, pathway), strict=True)
    for i, (question, (plain, changed)) in enumerate(zip(QUESTIONS, found, strict=True)):
        assert_near(plain, choice_scores(model, question))
        last = len(asked[i].ids) - 1
        edit = along(pathway.weights[i], pathway.own[i], acting[i], last=last)
        assert_near(changed, choice_scores(model, question, edit))
        assert model.plain_work(asked[i]).flops == pytest.approx(states[i].work.flops)


def test_the_table_lists_them():
    assert {family for family in image_families() if not no_images(family)} == {*FAMILIES, *OTHERS}
    reasons = [no_images(family) for family in ("olmoe", *image_families()) if no_images(family)]
    assert all(len(reason) > 40 and "not tried" not in reason for reason in reasons)


def prompts(model):
    return [model.encode(question) for question in QUESTIONS]


def test_the_prompt_is_the_processors(model):
    for question, prompt in zip(QUESTIONS, prompts(model), strict=True):
        inputs = read(model, question)
        assert prompt.ids == tuple(inputs["input_ids"][0].tolist())
        if question.images:
            assert torch.equal(prompt.extra.inputs["pixel_values"], inputs["pixel_values"])
            assert 0 < prompt.extra.shown.sum() < len(prompt.ids)
    one, none, _ = prompts(model)
    assert none.extra is None and one == model.encode(QUESTIONS[0])
    other = Question("one", "What is it?", QUESTIONS[0].choices, images=[picture(9)])
    assert one.ids == model.encode(other).ids and one != model.encode(other), "other pixels are another prompt"


@torch.no_grad()
def test_routing_is_read_at_text_and_image_tokens(model):
    for question, state in zip(QUESTIONS, model.prefill(prompts(model)), strict=True):
        inputs = read(model, question)
        found = read_routing(model, inputs)
        for position, (index, weights) in enumerate(routing_of(model, inputs)):
            assert torch.equal(found.experts[0, :, position], index)
            assert_near(found.weights[0, :, position], weights, scale=found.logits)
            dense = torch.zeros(model.n_experts).scatter(0, index[-1], weights[-1])
            assert_near(state.own[position], dense, scale=found.logits)


@torch.no_grad()
def test_likelihoods_are_those_of_full_forwards(model):
    states = model.prefill(prompts(model))
    for question, scores in zip(QUESTIONS, model.choice_scores(states), strict=True):
        assert_near(scores, choice_scores(model, question))
    blank = Question("one", "What is it?", QUESTIONS[0].choices, images=[picture(9)])
    assert (choice_scores(model, blank) - choice_scores(model, QUESTIONS[0])).abs().max() > 1e-3, "pictures count"


def test_work_is_told_with_that_of_pictures(model):
    states = model.prefill(prompts(model))
    for state in states:
        assert model.plain_work(state.prompt).flops == pytest.approx(state.work.flops)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.model.model.get_image_features(
            **{name: t for name, t in states[0].prompt.extra.inputs.items() if "mm" not in name}
        )
    bare = replace(states[0].packed, images=None)
    assert states[0].work.flops - model.flops.prefill(bare).flops == pytest.approx(counter.get_total_flops())


@torch.no_grad()
def test_tails_from_any_layer_are_the_prefill(model):
    for scope in ("answer", "all"):
        states = model.prefill(prompts(model), scope=scope)
        batch, expected = collate(states), torch.cat([s.token_scores for s in states])
        for start in range(len(model.sites)):
            hidden = tail_hidden(model.model, model.sites, batch, start).flatten(0, 1)
            found = likelihoods(head(model.model, hidden[batch.predicting][None])[0], batch.at, batch.scored)
            assert_near(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("scope", SCOPES)
def test_changed_pathways_are_full_forwards_with_a_forced_router(model, scope):
    states = model.prefill(prompts(model), scope=scope)
    last = tuple(range(1, len(model.sites)))
    pathways = [
        moved(Pathway(s.own, s.own, model.layers, scope=scope), layers=last, seed=i) for i, s in enumerate(states)
    ]
    together = model.choice_scores(states, stack_pathways(pathways))
    for question, state, pathway, scores in zip(QUESTIONS, states, pathways, together, strict=True):
        edit = along(pathway.weights, pathway.own, len(state.prompt.ids) - 1, scope=scope)
        expected = choice_scores(model, question, edit)
        assert (expected - choice_scores(model, question)).abs().max() > 1e-4
        assert_near(scores, expected)


def test_gradients_are_those_of_full_forwards(model):
    question, (state,) = QUESTIONS[0], model.prefill(prompts(model)[:1], scope="all")
    pathway = moved(Pathway(state.own[None], state.own[None], model.layers, scope="all"), layers=(1,))
    weights = pathway.weights.clone().requires_grad_()
    scores = model.tail_scores([state], pathway)(weights)
    expected = choice_scores(model, question, along(weights[0], state.own, len(state.prompt.ids) - 1, scope="all"))
    found, full = (torch.autograd.grad(s.sum(), weights)[0] for s in (scores, expected))
    assert (full[:, 1].abs() > 0).any()
    torch.testing.assert_close(found[:, 1], full[:, 1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_rule_acts_at_every_token_of_a_picture_too(model):
    def mirrored(layer):
        return Change(None, model.n_experts - 1 - layer.index, layer.weights)

    for question, answered in zip(QUESTIONS, model.ruled(prompts(model), mirrored), strict=True):
        expected = choice_scores(model, question, lambda layer, routing: routing.flip(-1))
        assert_near(answered.scores(), expected)
    assert_pristine(model.model.get_decoder())


@torch.no_grad()
@pytest.mark.parametrize("family", ["nemotron_h_omni", "qwen3_5_moe", "qwen3_vl_moe"])
def test_options_of_one_token_follow_kept_prompts(family):
    """Where layers carry a state along the sequence, these alone leave the prompt in the cache; where a layer is of
    experts alone, it leaves none."""
    model = seeing(family)
    whole = [replace(prompt, options=((40,), (41,)), lengths=(1.0, 1.0)) for prompt in prompts(model)]
    states = model.prefill(whole)
    assert all(state.packed.past == len(state.prompt.ids) - 1 for state in states)
    assert all(state.packed.images is None or state.packed.images.embeddings is None for state in states), "no pictures"
    pathway = stack_pathways([moved(Pathway(s.own, s.own, model.layers), layers=(1, 2)) for s in states])
    for i, (question, found) in enumerate(zip(QUESTIONS, model.choice_scores(states, pathway), strict=True)):
        with edited(model, along(pathway.weights[i], pathway.own[i], len(whole[i].ids) - 1)):
            logits = model.model(**read(model, question), use_cache=False).logits[0, -1]
        assert_near(found, logits.log_softmax(-1)[[40, 41]])


@torch.no_grad()
@pytest.mark.parametrize("family", ["qwen3_vl_moe", "gemma4"])
def test_what_is_written_is_that_of_full_forwards(family):
    model = seeing(family)
    asked = prompts(model)
    pathway = stack_pathways([moved(Pathway(s.own, s.own, model.layers), layers=(1, 2)) for s in model.prefill(asked)])
    for i, (question, found) in enumerate(zip(QUESTIONS, model.written(asked, pathway), strict=True)):
        inputs, start, new = read(model, question), len(asked[i].ids), []
        while len(new) < max(map(len, asked[i].options)) + SPARE and model.tokenizer.eos_token_id not in new:
            with edited(model, along(pathway.weights[i], pathway.own[i], start - 1)):
                new.append(int(model.model(**inputs, use_cache=False).logits[0, -1].argmax()))
            more = {"input_ids": new[-1], "attention_mask": 1, "mm_token_type_ids": 0}
            inputs |= {name: pad(inputs[name], (0, 1), value=more[name]) for name in more.keys() & inputs.keys()}
        line = model.tokenizer.decode(new, skip_special_tokens=True).strip().partition("\n")[0].strip()
        assert line == found.text and found.work.flops > 0
    with pytest.raises(SettingError, match="one prompt at a time for a rule and images"):
        model.written(asked, lambda layer: None)
