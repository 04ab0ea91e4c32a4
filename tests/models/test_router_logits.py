"""Traces of router logits: each family's own routers make experts and weights of them."""

from copy import deepcopy

import pytest
import torch
from rounding import assert_near
from routing.naive import routed_model, shared_model
from routing.recorded import TEXT

from c3po_adaptive.errors import ModelError, ShapeError
from c3po_adaptive.models.traced import likelihoods, of_router_logits, record, replay
from c3po_adaptive.routing.trace import parted

FAMILIES = ("olmoe", "qwen2_moe", "mixtral", "deepseek_v3", "gpt_oss", "llama4_text")


def logits_of(model, tokens):
    """Of a copy: transformers leaves the hooks that it records with in a model for good."""
    with torch.no_grad():
        return deepcopy(model.model)(input_ids=tokens[None], output_router_logits=True).router_logits


@pytest.mark.parametrize("family", FAMILIES)
def test_router_logits_become_what_the_model_multiplies_with(family):
    model = shared_model(family)
    own = record(model, TEXT)
    trace = of_router_logits(model, own.tokens, logits_of(model, own.tokens))
    assert not parted(own, trace).any() and trace.layers == own.layers and trace.recorded.all()
    used = [torch.zeros(*t.experts[:-1].shape[:2], 8).scatter(-1, t.experts[:-1], t.weights[:-1]) for t in (own, trace)]
    assert_near(*used)
    torch.testing.assert_close(replay(model, trace, foreign=True), likelihoods(model, own), atol=1e-4, rtol=0)


def test_logits_decide_and_not_the_model_that_is_run():
    model, tokens = shared_model("olmoe"), record(shared_model("olmoe"), TEXT).tokens
    other = logits_of(routed_model("olmoe"), tokens)
    other = [part.flip(-1) for part in other]
    trace = of_router_logits(model, tokens, other)
    scores = torch.stack(other, 1).softmax(-1).topk(2)
    assert torch.equal(trace.experts, scores.indices)
    torch.testing.assert_close(trace.weights, scores.values)


def test_bfloat16_logits_become_bfloat16_weights():
    model = routed_model("olmoe", dtype="bfloat16")
    model.model.to(torch.bfloat16)
    own = record(model, TEXT)
    trace = of_router_logits(model, own.tokens, logits_of(model, own.tokens))
    assert (parted(own, trace).float().mean()) < 0.05
    assert torch.equal(trace.weights, trace.weights.bfloat16().float()), "what is multiplied with is bfloat16"


@pytest.mark.parametrize(
    "changed",
    [
        lambda logits: logits[:-1],
        lambda logits: [part[:-1] for part in logits],
        lambda logits: [part[:, :-1] for part in logits],
        lambda logits: [torch.stack([part, part]) for part in logits],
        lambda logits: [part[0, 0] for part in logits],
        lambda logits: [],
    ],
)
def test_logits_of_others_are_refused(changed):
    model, tokens = shared_model("olmoe"), record(shared_model("olmoe"), TEXT).tokens
    with pytest.raises(ShapeError, match=r"router logits \(T, E\) = \(48, 8\) of 3 MoE layers"):
        of_router_logits(model, tokens, changed(logits_of(model, tokens)))


def test_logits_that_are_no_numbers_are_refused():
    model, tokens = shared_model("olmoe"), record(shared_model("olmoe"), TEXT).tokens
    for part in (torch.full((48, 8), float("nan")), torch.ones(48, 8, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="finite"):
            of_router_logits(model, tokens, [part] * 3)


def test_a_router_that_takes_no_logits_is_refused():
    model = routed_model("olmoe")
    tokens = record(model, TEXT).tokens
    logits = [part + 1 for part in logits_of(model, tokens)]
    for site in model.sites:
        made = site.router.forward

        def otherwise(hidden, made=made, router=site.router):
            scores = made(hidden)[1:]
            return (hidden.reshape(-1, hidden.shape[-1]) @ router.weight.T, *scores)

        site.router.forward = otherwise
    with pytest.raises(ModelError, match="OlmoeTopKRouter makes them otherwise"):
        of_router_logits(model, tokens, logits)
    record(model, TEXT)  # and the model is as it was
