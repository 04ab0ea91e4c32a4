"""Requests to vLLM that nobody honest would send: refused at the front end, and nobody else pays for them."""

import base64
import json
import tempfile
from dataclasses import replace

import pytest
import torch
from c3po_vllm import KEY, TRACE_KEY, PathwayRequest, TraceRequest
from c3po_vllm.acting import Acting
from c3po_vllm.admission import ServedModel, admitted
from hostile.doors import is_refused, passed
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from safetensors.torch import save
from test_acting import routed
from test_plugin import admitted as admitted_by_plugin

from c3po_adaptive.errors import DataError, ShapeError
from c3po_adaptive.routing.trace import Trace

set_hypothesis_home_dir(tempfile.gettempdir())
E, LAYERS, PROMPT = 8, (1, 2, 3), [7, 8, 9]
SERVED = ServedModel(LAYERS, E, 2, "a" * 32, widest=E)
CARDS = {
    KEY: {"layers": [2], "scope": "answer", "transfer": "replace", "top_k": None, "prompt_tokens": None},
    TRACE_KEY: {"layers": [2], "n_experts": E},
}
TENSORS = {
    KEY: {"weights": torch.full((1, E), 0.1), "own": torch.full((1, E), 0.1)},
    TRACE_KEY: {
        "tokens": torch.tensor(PROMPT).int(),
        "experts": torch.tensor([[[1, 2]]] * 3).short(),
        "weights": torch.full((3, 1, 2), 0.5),
    },
}


def text(key, tensors=None, **card):
    """What a request carries, with other tensors or another card; None leaves a tensor out."""
    held = {name: t for name, t in (TENSORS[key] | (tensors or {})).items() if t is not None}
    said = {"schema_version": 1, "routers": "a" * 32} | CARDS[key] | card
    return base64.b64encode(save(held, {"card": json.dumps(said)})).decode()


def enter(key, sent, prompt=PROMPT):
    return admitted((key, sent), SERVED, prompt)


def test_what_is_right_comes_in():
    assert enter(KEY, text(KEY)).layers == enter(TRACE_KEY, text(TRACE_KEY)).layers == (2,)


WIDE = (torch.arange(20_000) % E).expand(3, 1, -1).short().contiguous()


@pytest.mark.parametrize(
    ("tensors", "card", "said"),
    [
        ({"experts": WIDE, "weights": torch.ones(WIDE.shape)}, {}, "characters"),
        ({"experts": WIDE[..., : E + 1].contiguous(), "weights": torch.ones(3, 1, E + 1)}, {}, "different experts"),
        ({"experts": torch.tensor([[[1, 1]]] * 3).short()}, {}, "different experts"),
        ({"experts": torch.tensor([[[1, E]]] * 3).short()}, {}, "from 0 to 7"),
        ({"experts": torch.tensor([[[1, -2]]] * 3).short()}, {}, "from 0 to 7"),
        ({"experts": torch.tensor([[[1, E]]] * 3).short()}, {"n_experts": E + 1}, "another model"),
        ({"experts": torch.tensor([[[1.5, 2.5]]] * 3)}, {}, "int16"),
        ({"experts": torch.full((3, 1, 2), 2**64 - 1, dtype=torch.uint64)}, {}, "int16"),
        ({"experts": torch.ones(3, 1, 2, dtype=torch.bool)}, {}, "int16"),
        ({"tokens": torch.ones(3, dtype=torch.bool)}, {}, "int32"),
        ({"tokens": torch.tensor([7.0, 8.5, 9.0])}, {}, "int32"),
        ({"weights": torch.full((3, 1, 2), float("nan"))}, {}, "NaN"),
        ({"weights": torch.full((3, 1, 2), float("inf"))}, {}, "infinite"),
        ({"weights": torch.full((3, 1, 2), 3e38)}, {}, "larger"),
        ({"weights": torch.full((3, 1, 2), -0.5)}, {}, "negative"),
        ({"weights": torch.ones(3, 1, 2, dtype=torch.float64)}, {}, "float32"),
        ({"weights": torch.ones(3, 1, 2, dtype=torch.bool)}, {}, "float32"),
        ({"more": torch.ones(3)}, {}, "tokens"),
        ({"tokens": torch.zeros(0).int(), "experts": torch.zeros(0, 2**15, 1).short(),
          "weights": torch.zeros(0, 2**15, 1)}, {}, r"\(T, L\)"),
        ({}, {"n_experts": 10**30}, "n_experts"),
        ({}, {"n_experts": True}, "n_experts"),
        ({}, {"layers": [True]}, "layers"),
        ({}, {"layers": ["2"]}, "layers"),
        ({}, {"layers": []}, r"\(T, L\)"),
        ({}, {"layers": [10**30]}, "rising"),
    ],
)  # fmt: skip
def test_traces_that_no_router_makes(tensors, card, said):
    with pytest.raises(DataError, match=said) as caught:
        enter(TRACE_KEY, text(TRACE_KEY, tensors, **card))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("tensors", "card", "said"),
    [
        *(({name: torch.full((1, E), value)}, {}, "from 0 to 32768")
          for name in ("weights", "own") for value in (float("nan"), float("inf"), -0.1, 3e38)),
        ({"weights": torch.ones(1, 20_000), "own": torch.ones(1, 20_000)}, {}, "characters"),
        ({"weights": torch.ones(1, E + 1), "own": torch.ones(1, E + 1)}, {}, "another model"),
        ({"weights": torch.zeros(0, 2**40), "own": torch.zeros(0, 2**40)}, {"layers": []}, "another model"),
        ({"weights": torch.zeros(2**40, 0), "own": torch.zeros(2**40, 0)}, {}, "as many layers"),
        ({}, {"layers": [2, 2]}, "as many layers"),
        ({}, {"layers": [-2]}, "among"),
        ({}, {"layers": [10**30]}, "among"),
        ({}, {"layers": [*range(500)]}, "as many layers"),
        ({}, {"top_k": E + 1}, "top_k of at most 8"),
        ({}, {"top_k": 10**30}, "top_k of at most 8"),
        ({}, {"top_k": True}, "top_k"),
        ({}, {"prompt_tokens": 10**30}, "prompt_tokens"),
        ({}, {"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"more": torch.ones(3)}, {}, "weights and own"),
    ],
)  # fmt: skip
def test_pathways_of_more_than_there_is(tensors, card, said):
    with pytest.raises(DataError, match=said) as caught:
        enter(KEY, text(KEY, tensors, **card))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", [KEY, TRACE_KEY])
def test_what_is_too_long_is_not_decoded(key, monkeypatch):
    """256 megabytes of text were."""

    def decode(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr(base64, "b64decode", decode)
    for length in (50_000, 2**28):
        with pytest.raises(DataError, match=f"got {length:,}"):
            enter(key, "A" * length)


def test_the_longest_that_may_be_asked_with_is_not_too_long():
    """All layers, all experts, all of the prompt, with the longest numbers in its card."""
    layers, experts, prompt = tuple(range(10_000, 10_060)), 256, list(range(40))
    served = ServedModel(layers, experts, 8, "a" * 32, widest=experts)
    weights = torch.ones(len(layers), experts)
    asked = PathwayRequest(weights, weights, layers, "answer", "replace", experts, len(prompt), "a" * 32)
    assert admitted((KEY, asked.encode()), served, prompt).layers == layers
    chosen = torch.arange(experts).expand(len(prompt), len(layers), -1)
    trace = Trace(torch.tensor(prompt), layers, chosen, torch.ones(chosen.shape), experts)
    sent = TraceRequest(trace, "a" * 32).encode()
    assert admitted((TRACE_KEY, sent), served, prompt).most == experts
    with pytest.raises(DataError, match="characters"):
        admitted((TRACE_KEY, sent), replace(served, widest=8), prompt)


def test_a_trace_of_ids_alone_is_no_request():
    trace = Trace(torch.tensor(PROMPT), (2,), torch.tensor([[[1, 2]]] * 3), None, E)
    for ask in (lambda one: one.encode(), lambda one: one.weights):
        with pytest.raises(ShapeError, match="with weights"):
            ask(TraceRequest(trace, "a" * 32))


@pytest.mark.parametrize("mixed", [2, 3, E])
def test_rows_of_others_are_no_wider_than_there_are_experts(mixed):
    """511 rows of requests that carry nothing, beside one that mixes as many experts as it may."""
    chosen = torch.arange(mixed).expand(1, 1, -1)
    trace = Trace(torch.tensor([7]), (5,), chosen, torch.full(chosen.shape, 0.1), E)
    path = PathwayRequest(torch.zeros(1, E), torch.zeros(1, E), (5,), "last", "replace", None, None, "a" * 32)
    path.weights[0, :mixed] = 0.1
    for asked in (TraceRequest(trace, "a" * 32), path):
        acting = Acting()
        acting.begin("wide", asked, prompt_length=1)
        step = acting.step([("plain", 0, 511), ("wide", 0, 1)])
        index, weights = torch.tensor([[3, 4]] * 512, dtype=torch.int32), torch.tensor([[0.6, 0.4]] * 512)
        wide, mixing = step.route(5, index, weights)
        assert wide.shape == mixing.shape == (512, max(2, mixed))
        assert torch.equal(wide[:511, :2], index[:511]) and torch.equal(mixing[:511, :2], weights[:511])
        assert not mixing[:511, 2:].any()
        assert ((wide >= 0) & (wide < E)).all()


def test_no_request_makes_a_step_wider_unless_the_operator_says_so():
    """As wide as the model's own choice, whatever is asked for; with one more allowed, one more."""
    path = PathwayRequest(torch.zeros(1, E), torch.zeros(1, E), (LAYERS[0],), "last", "replace", None, None, "a" * 32)
    path.weights[0, :3] = 0.1
    with pytest.raises(DataError, match=r"at most 2 experts a token.*up to 3; give it top_k=2.*C3PO_EXPERTS"):
        admitted((KEY, path.encode()), replace(SERVED, widest=2), PROMPT)
    assert admitted((KEY, path.encode()), replace(SERVED, widest=3), PROMPT).layers == (LAYERS[0],)


def test_what_a_row_computes_does_not_depend_on_its_neighbours():
    asked = PathwayRequest(torch.rand(1, 4), torch.rand(1, 4), (5,), "last", "replace", None, None, "a" * 32)
    found = []
    for others in ([], [("other", 0, 1)]):
        acting = Acting()
        acting.begin("a", asked, prompt_length=1)
        acting.begin("other", replace(asked, weights=torch.rand(1, 4) * 1000), prompt_length=1)
        found.append(routed(acting.step([("a", 0, 1), ("plain", 0, 1), *others]), 2 + len(others))[:2])
    assert torch.equal(*found)


def test_no_two_requests_have_one_salt():
    """A prompt of 12 tokens with the user's salt "3" is not one of 123 with none."""
    sent = KEY, PathwayRequest(
        torch.tensor([[0.2, 0.2, 0.6, 0.0]]), torch.tensor([[0.6, 0.4, 0.0, 0.0]]), (2,), "answer", "replace", None,
        None, "a" * 32).encode()  # fmt: skip
    users = (None, "", "3", "23", '"', '", "', "\\", "]", "null")
    salts = [admitted_by_plugin(sent, length, user).cache_salt for length in (1, 12, 123) for user in users]
    assert len({*salts}) == len(salts)


plain = st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from([10**30, -(10**30), 0.5, "", "2", "x" * 300])
changed = st.dictionaries(
    st.sampled_from(["layers", "n_experts", "top_k", "prompt_tokens", "scope", "routers", "schema_version", "more"]),
    plain | st.lists(plain, max_size=3),
    max_size=3,
)
kinds = st.sampled_from(
    [
        *(torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, torch.uint64, torch.complex64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn),
    ]
)
tensors = st.dictionaries(
    st.sampled_from(["tokens", "experts", "weights", "own", "more"]),
    st.none()
    | st.builds(
        lambda size, kind, value: torch.full(size, value).to(kind),
        st.lists(st.integers(0, 4), max_size=4),
        kinds,
        st.sampled_from([0.0, 1.0, 2.0, 7.0]),
    ),
    max_size=2,
)


@settings(max_examples=500, deadline=None, database=None)
@given(st.sampled_from([KEY, TRACE_KEY]), tensors, changed)
def test_whatever_a_request_carries(key, tensors, card):
    asked = passed(lambda: enter(key, text(key, tensors, **card)))
    if isinstance(asked, PathwayRequest | TraceRequest):
        acting = Acting()
        acting.begin("a", asked, len(PROMPT))
        step = acting.step([("plain", 0, 4), ("a", 0, len(PROMPT))])
        if step is not None:
            wide, mixing = step.route(step.layers[0], torch.tensor([[0, 1]] * 7), torch.full((7, 2), 0.5))
            assert wide.shape[1] <= E and mixing.isfinite().all() and (mixing >= 0).all()


@settings(max_examples=500, deadline=None, database=None)
@given(st.sampled_from([KEY, TRACE_KEY]), st.data())
def test_bytes_of_a_request_that_were_changed(key, data):
    content = bytearray(base64.b64decode(text(key)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    passed(lambda: enter(key, base64.b64encode(bytes(content)).decode()))


@pytest.mark.parametrize("sent", [None, True, 5, b"AAAA", [], {}, "", "A", "é", "\0", "\ud800"], ids=repr)
def test_what_is_no_text(sent):
    for key in (KEY, TRACE_KEY):
        is_refused(lambda key=key: enter(key, sent))
