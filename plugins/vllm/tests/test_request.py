"""What a request to vLLM carries: written, read again, and refused where it is wrong."""

import base64
import json
from dataclasses import replace

import pytest
import torch
from c3po_vllm import KEY, PathwayRequest, acted, change_request, pathway_request, trace_request
from c3po_vllm.identity import routers_identity
from routing.naive import shared_model
from safetensors.torch import save

from c3po_adaptive import load_moe_model
from c3po_adaptive.errors import DataError, ModelError, SettingError, ShapeError
from c3po_adaptive.models.tiny import write_tiny_checkpoint

CARD = {
    "schema_version": 1,
    "layers": [0, 2],
    "scope": "answer",
    "transfer": "replace",
    "top_k": None,
    "prompt_tokens": None,
    "routers": "0" * 32,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_moe_model(write_tiny_checkpoint(tmp_path_factory.mktemp("olmoe"), "olmoe"))


def moved(model, text="a stone"):
    """A pathway that changes the last two of three layers."""
    own = model.pathway(text, kind="weights")
    weights = own.weights.clone()
    weights[1:] = weights[1:].flip(-1)
    return replace(own, router=weights)


def text(weights, own=None, **card):
    tensors = {"weights": weights, "own": weights.clone() if own is None else own}
    return base64.b64encode(save(tensors, {"card": json.dumps(CARD | card)})).decode()


def test_only_layers_that_change_are_sent_and_come_back_as_they_were(model):
    pathway = replace(moved(model), top_k=2)
    sent = pathway_request(model, pathway, transfer="shift", prompt_tokens=3)
    asked = PathwayRequest.decode(sent[KEY])
    assert asked.layers == (1, 2)
    assert torch.equal(asked.weights, pathway.weights[1:])
    assert torch.equal(asked.own, pathway.own[1:])
    assert (asked.scope, asked.transfer, asked.top_k, asked.prompt_tokens) == ("answer", "shift", 2, 3)
    assert asked.encode() == sent[KEY]


def test_a_change_alone_is_sent_to_the_last_bit(model):
    change = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)) / 10
    asked = PathwayRequest.decode(change_request(model, change)[KEY])
    assert torch.equal(asked.weights - asked.own, change)
    assert asked.transfer == "shift"


def test_salts_tell_pathways_apart(model):
    pathway = moved(model)
    requests = [
        pathway_request(model, pathway),
        pathway_request(model, replace(pathway, scope="last")),
        pathway_request(model, replace(pathway, router=pathway.own)),
        pathway_request(model, pathway, prompt_tokens=2),
    ]
    assert len({PathwayRequest.decode(r[KEY]).salt(5) for r in requests}) == len(requests)


def test_routers_are_the_same_in_bfloat16_and_float32_and_differ_between_models(model, tmp_path):
    routers = [site.router.weight for site in model.sites]
    coarse = [w.bfloat16() for w in routers]
    assert routers_identity(coarse) == routers_identity([w.float() for w in coarse]) == routers_identity(routers)
    other = load_moe_model(write_tiny_checkpoint(tmp_path / "other", "olmoe", seed=1))
    assert routers_identity(site.router.weight for site in other.sites) != routers_identity(routers)


def by_hand(header, size):
    """A safetensors file of zeros, with a header that its library would not write."""
    head = json.dumps(header).encode()
    return base64.b64encode(len(head).to_bytes(8, "little") + head + bytes(size)).decode()


NAN = torch.tensor([[0.5, float("nan")], [0.5, 0.5]])
GOOD = torch.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "expected text, got int"),
        ("not base64!", "cannot be read"),
        (text(GOOD)[:-12], "cannot be read"),
        (text(NAN), "NaN"),
        (text(-GOOD), "negative"),
        (text(GOOD.double()), "float64"),
        (text(GOOD, GOOD[:, :1].contiguous()), "one shape"),
        (text(GOOD, layers=[0, 1, 2]), "as many layers"),
        (text(GOOD, layers=[2, 0]), "rising"),
        (text(GOOD, scope="everywhere"), "scope"),
        (text(GOOD, top_k=0), "top_k"),
        (text(GOOD, schema_version=2), "schema_version"),
        (text(GOOD, routers="x"), "routers"),
        (text(GOOD, more=1), "more"),
        (base64.b64encode(save({"weights": GOOD})).decode(), "card"),
        (by_hand({"__metadata__": None}, 0), "card"),
        (by_hand({"weights": {"dtype": "F4", "shape": [1, 4], "data_offsets": [0, 2]}}, 2), "cannot be read"),
    ],
)
def test_what_is_no_pathway_is_refused(given, said):
    with pytest.raises(DataError, match=said):
        PathwayRequest.decode(given)


def test_pathways_that_cannot_be_asked_for_are_refused(model, tmp_path):
    with pytest.raises(ShapeError, match="one a request"):
        pathway_request(model, model.pathway(["a", "b"]))
    with pytest.raises(SettingError, match="replace or shift"):
        pathway_request(model, moved(model), transfer="add")
    with pytest.raises(ShapeError, match="NaN"):
        change_request(model, torch.full((3, 8), float("nan")))
    with pytest.raises(ShapeError, match="another model"):
        pathway_request(load_moe_model(write_tiny_checkpoint(tmp_path / "d", "deepseek")), moved(model))
    other = load_moe_model(write_tiny_checkpoint(tmp_path / "other", "olmoe", seed=1))
    with pytest.raises(ModelError, match="other weights"):
        pathway_request(other, model.with_origin(moved(model), "a stone"))


def test_an_answer_that_says_nothing_of_the_pathway_is_an_error():
    assert acted({"c3po": {"tokens": 3, "layers": 2, "acted": 6}}) == {"tokens": 3, "layers": 2, "acted": 6}
    for answer in (None, {}, {"other": 1}):
        with pytest.raises(ModelError, match="does not apply pathways"):
            acted(answer)


def test_a_trace_of_another_tokenizer_is_refused(trace):
    other = replace(trace, model="", tokenizer="another")
    with pytest.raises(DataError, match="tokenizer, got one of another"):
        trace_request(shared_model("olmoe"), other)
