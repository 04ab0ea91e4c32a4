"""What the plugin does in the front end and the core, on stand-ins: no vLLM is needed for it."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from c3po_vllm import KEY, TRACE_KEY, PathwayRequest, TraceRequest
from c3po_vllm.admission import ServedModel
from c3po_vllm.request import ACTED
from c3po_vllm.vllm_plugin import (
    _admitting,
    _asking,
    _asking_async,
    _doubting,
    _doubting_async,
    _tell,
    _worker_counts,
)

from c3po_adaptive.routing.trace import Trace

SERVED = ServedModel(layers=(1, 2), n_experts=4, top_k=2, routers="a" * 32, widest=4)
OWN = torch.tensor([[0.6, 0.4, 0.0, 0.0]])
ONE, OTHER = (
    (KEY, PathwayRequest(torch.tensor([row]), OWN, (2,), "answer", "replace", None, None, "a" * 32).encode())
    for row in ([0.2, 0.2, 0.6, 0.0], [0.3, 0.2, 0.5, 0.0])
)


def admitted(pathway, length, before=None):
    """A request of so many tokens, as the engine gets it."""
    request = SimpleNamespace(
        prompt_token_ids=[0] * length,
        cache_salt=before,
        lora_request=None,
        resumable=False,
        prompt_embeds=None,
        sampling_params=SimpleNamespace(),
    )
    params = SimpleNamespace(extra_args=None if pathway is None else {pathway[0]: pathway[1]})
    return _admitting(lambda *args: request)(SimpleNamespace(c3po_served=SERVED), "id", "text", params)


def salt(pathway, length, before=None):
    """Of its prefix cache."""
    return admitted(pathway, length, before).cache_salt


def test_no_two_share_a_prefix_unless_it_is_computed_alike():
    """Another pathway, none, or the same at the end of a longer prompt."""
    salts = [salt(ONE, 32), salt(OTHER, 32), salt(ONE, 64), salt(None, 32), salt(ONE, 32, "mine")]
    assert len({*salts}) == len(salts)
    assert salt(ONE, 32) == salts[0]
    assert salt(None, 32, "mine") == "mine"
    assert "mine" in salts[-1]


def test_what_a_trace_left_in_the_cache_is_nobodys():
    """Found there it would not be forced again, nor counted."""
    trace = Trace(torch.zeros(3).long(), (2,), torch.tensor([[[0, 3]]] * 3), torch.full((3, 1, 2), 0.5), 4)
    named = TRACE_KEY, TraceRequest(trace, "a" * 32).encode()
    assert salt(named, 32) != salt(named, 32)
    assert admitted(named, 32).sampling_params.skip_reading_prefix_cache


def test_a_pathway_reads_the_cache_only_where_all_that_it_acts_on_is_computed_anyway():
    """Its own answer, given as a part of the prompt, would be found there, and not be counted again."""
    asked = PathwayRequest.decode(ONE[1])
    for given, skips in ((None, False), (32, False), (10, True)):
        named = KEY, replace(asked, prompt_tokens=given).encode()
        assert hasattr(admitted(named, 32).sampling_params, "skip_reading_prefix_cache") == skips


class Engine:
    """Its workers tell what they serve, and take other weights."""

    def __init__(self):
        self.input_processor, self.routers, self.asked = SimpleNamespace(), "a" * 32, 0

    def collective_rpc(self, method):
        if method == "c3po_served":
            self.asked += 1
            return [replace(SERVED, routers=self.routers).plain()]
        self.routers = "b" * 32
        return []

    def add_request(self, request_id, prompt, params):
        return self.input_processor.c3po_served.routers


class AsyncEngine(Engine):
    async def collective_rpc(self, method):
        return super().collective_rpc(method)

    async def add_request(self, *args):
        return super().add_request(*args)


def test_what_is_served_is_asked_again_once_workers_were_told_anything():
    class Patched(Engine):
        add_request, collective_rpc = _asking(Engine.add_request), _doubting(Engine.collective_rpc)

    engine, params = Patched(), SimpleNamespace(extra_args={ONE[0]: ONE[1]})
    assert [engine.add_request("id", "text", params) for _ in range(3)] == ["a" * 32] * 3
    assert engine.asked == 1
    engine.collective_rpc("reload_weights")
    assert [engine.add_request("id", "text", params) for _ in range(3)] == ["b" * 32] * 3
    assert engine.asked == 2


def test_what_is_served_is_asked_again_over_http_too():
    class Patched(AsyncEngine):
        add_request = _asking_async(AsyncEngine.add_request)
        collective_rpc = _doubting_async(AsyncEngine.collective_rpc)

    async def asked(engine, params):
        found = [await engine.add_request("id", "text", params) for _ in range(2)]
        await engine.collective_rpc("update_weights")
        return [*found, *[await engine.add_request("id", "text", params) for _ in range(2)]]

    engine = Patched()
    found = asyncio.run(asked(engine, SimpleNamespace(extra_args={ONE[0]: ONE[1]})))
    assert (found, engine.asked) == (["a" * 32] * 2 + ["b" * 32] * 2, 2)


@pytest.mark.parametrize(("reason", "stop", "told"), [("stop", [], True), (None, ["."], True), (None, [], False)])
def test_whatever_may_be_the_last_answer_says_where_it_acted(reason, stop, told):
    """A text to stop at is looked for behind the core, which gives no reason then."""
    held = {"a": SimpleNamespace(num_tokens=9, sampling_params=SimpleNamespace(stop=stop))}
    output = SimpleNamespace(request_id="a", finish_reason=reason, kv_transfer_params=None)

    def counts(name, args):
        assert args == ({"a": 8},)
        return [{"a": {"tokens": 1}}]

    _tell(SimpleNamespace(model_executor=SimpleNamespace(collective_rpc=counts)), held, [output])
    assert output.kv_transfer_params == ({ACTED: {"tokens": 1}} if told else None)


def test_a_worker_without_hooks_counts_nothing():
    assert _worker_counts(SimpleNamespace(), {"a": 3}) == {}
