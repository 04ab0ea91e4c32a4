"""Which requests come in: everything that is wrong is said before the engine sees it."""

import base64
from dataclasses import replace

import pytest
import torch
from c3po_vllm import KEY, TRACE_KEY, PathwayRequest, TraceRequest
from c3po_vllm.admission import ServedModel, admitted, carried, most_mixed
from c3po_vllm.forced import TraceCard
from safetensors.torch import save

from c3po_adaptive.errors import DataError, ModelError
from c3po_adaptive.routing.trace import Trace

SERVED = ServedModel(layers=(1, 2, 3), n_experts=4, top_k=2, routers="a" * 32, widest=4)
OWN = torch.tensor([[0.6, 0.4, 0.0, 0.0]])
ASKED = PathwayRequest(torch.tensor([[0.2, 0.2, 0.6, 0.0]]), OWN, (2,), "answer", "replace", None, None, "a" * 32)


def test_a_pathway_of_the_model_served_comes_in():
    assert admitted((KEY, ASKED.encode()), SERVED, [0] * 5).layers == (2,)


@pytest.mark.parametrize(
    ("asked", "served", "said"),
    [
        (replace(ASKED, routers="b" * 32), SERVED, "one of another"),
        (replace(ASKED, layers=(0,)), SERVED, r"among \[1, 2, 3\], got \[0\]"),
        (
            replace(ASKED, weights=torch.ones(4, 4), own=torch.ones(4, 4), layers=(1, 2, 3, 4)),
            SERVED,
            "at most 3 layers",
        ),
        (replace(ASKED, weights=torch.ones(1, 6), own=torch.ones(1, 6)), SERVED, "got 1 of 6"),
        (replace(ASKED, top_k=5), SERVED, "top_k of at most 4.*got 5"),
        (replace(ASKED, prompt_tokens=6), SERVED, "prompt_tokens of at most 5"),
        (ASKED, replace(SERVED, widest=2), "give it top_k=2.*C3PO_EXPERTS"),
    ],
    ids=["routers", "layer", "layers", "experts", "top_k", "prompt", "width"],
)
def test_others_are_refused(asked, served, said):
    with pytest.raises(DataError, match=said):
        admitted((KEY, asked.encode()), served, [0] * 5)


TRACE = Trace(torch.tensor([7, 8]), (1, 3), torch.tensor([[[0, 3]] * 2] * 2), torch.full((2, 2, 2), 0.5), 4)


def test_a_trace_of_the_prompt_comes_in():
    asked = admitted((TRACE_KEY, TraceRequest(TRACE, "a" * 32).encode()), SERVED, [7, 8, 9])
    assert (asked.layers, asked.trace.experts.tolist()) == ((1, 3), TRACE.experts.tolist())


@pytest.mark.parametrize(
    ("asked", "served", "prompt", "said"),
    [
        (TRACE, SERVED, [7, 9, 9], "got 8 at place 1, where the prompt has 9"),
        (TRACE, SERVED, [7], "at most the prompt's 1 tokens, got 2"),
        (replace(TRACE, layers=(0, 3)), SERVED, [7, 8], r"among \[1, 2, 3\], got \[0\]"),
        (replace(TRACE, n_experts=5), SERVED, [7, 8], "of 4 experts, got 2 of 5"),
        (TRACE, replace(SERVED, routers="b" * 32), [7, 8], "one of another"),
        (TRACE, replace(SERVED, widest=1, top_k=1), [7, 8], "got a trace of 2"),
    ],
    ids=["tokens", "length", "layer", "experts", "routers", "width"],
)
def test_other_traces_are_refused(asked, served, prompt, said):
    with pytest.raises(DataError, match=said):
        admitted((TRACE_KEY, TraceRequest(asked, "a" * 32).encode()), served, prompt)


@pytest.mark.parametrize(
    ("tensors", "layers", "said"),
    [
        ({"weights": None}, (1, 3), "expected tokens .*got {"),
        ({"tokens": torch.tensor(7).int()}, (1, 3), "expected tokens"),
        ({}, (1, 1), "layers, rising"),
        ({}, (1, 2, 3), r"\(T, L\) = \(2, 3\)"),
        ({"experts": torch.zeros(2, 2, 0).short(), "weights": torch.zeros(2, 2, 0)}, (1, 3), "k >= 1"),
    ],
    ids=["missing", "scalar", "twice", "other shape", "no expert"],
)
def test_what_does_not_fit_together_is_refused(tensors, layers, said):
    whole = {"tokens": TRACE.tokens.int(), "experts": TRACE.experts.short(), "weights": TRACE.weights} | tensors
    card = TraceCard(layers=layers, n_experts=4, routers="a" * 32).model_dump_json()
    packed = save({name: t for name, t in whole.items() if t is not None}, {"card": card})
    with pytest.raises(DataError, match=rf"c3po_trace: .*{said}.*trace_request"):
        TraceRequest.decode(base64.b64encode(packed).decode())


@pytest.mark.parametrize("given", [None, "no base64!", TraceRequest(TRACE, "a" * 32).encode()[:-40], ASKED.encode()])
def test_what_is_no_trace_is_refused(given):
    with pytest.raises(DataError, match=r"c3po_trace: expected .*trace_request"):
        TraceRequest.decode(given)


def test_a_server_that_cannot_says_why():
    with pytest.raises(ModelError, match="cannot apply pathways or traces: graphs; parts"):
        admitted((KEY, ASKED.encode()), replace(SERVED, problems=("graphs", "parts")), [0] * 5)


def test_a_narrow_server_takes_as_many_experts_as_the_model_uses():
    narrow = replace(SERVED, widest=2)
    assert admitted((KEY, replace(ASKED, top_k=2).encode()), narrow, [0] * 5).top_k == 2
    assert most_mixed(ASKED, 2) == 3  # two of its own, and one that is raised
    assert most_mixed(replace(ASKED, scope="last"), 2) == 3
    assert most_mixed(replace(ASKED, weights=OWN, scope="last"), 2) == 2
    assert most_mixed(replace(ASKED, weights=OWN[:0], own=OWN[:0], layers=()), 2) == 2


def test_names_that_look_like_ours_are_not_passed_over():
    assert carried(None) is None
    assert carried({"other": 1}) is None
    assert carried({KEY: "text"}) == (KEY, "text")
    assert carried({TRACE_KEY: "text"}) == (TRACE_KEY, "text")
    with pytest.raises(DataError, match="got both; leave one"):
        carried({KEY: "text", TRACE_KEY: "text"})
    with pytest.raises(DataError, match="got None; leave the name out"):
        carried({KEY: None})
    with pytest.raises(DataError, match="got c3po_pathways; use that name"):
        carried({"c3po_pathways": "text"})


def test_what_workers_tell_is_put_together():
    told = [replace(SERVED, problems=("a",)).plain(), replace(SERVED, problems=("b", "a")).plain()]
    told[0]["layers"] = list(told[0]["layers"])  # as it comes from another process
    assert ServedModel.of_workers(told) == replace(SERVED, problems=("a", "b"))
