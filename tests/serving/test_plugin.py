"""What the plugin does in the front end and the core, on stand-ins: no vLLM is needed for it."""

from types import SimpleNamespace

import pytest
import torch

from c3po_adaptive.routing.trace import Trace
from c3po_adaptive.serving import KEY, TRACE_KEY, PathwayRequest, TraceRequest
from c3po_adaptive.serving.admission import ServedModel
from c3po_adaptive.serving.request import ACTED
from c3po_adaptive.serving.vllm_plugin import _admitting, _tell, _worker_counts

SERVED = ServedModel(layers=(1, 2), n_experts=4, top_k=2, routers="a" * 32, wide=True)
OWN = torch.tensor([[0.6, 0.4, 0.0, 0.0]])
ONE, OTHER = (
    (KEY, PathwayRequest(torch.tensor([row]), OWN, (2,), "answer", "replace", None, None, "a" * 32).encode())
    for row in ([0.2, 0.2, 0.6, 0.0], [0.3, 0.2, 0.5, 0.0])
)


def salt(pathway, length, before=None):
    """Of the prefix cache, for a request of so many tokens."""
    request = SimpleNamespace(
        prompt_token_ids=[0] * length,
        cache_salt=before,
        lora_request=None,
        resumable=False,
        prompt_embeds=None,
        sampling_params=SimpleNamespace(),
    )
    params = SimpleNamespace(extra_args=None if pathway is None else {pathway[0]: pathway[1]})
    return _admitting(lambda *args: request)(SimpleNamespace(c3po_served=SERVED), "id", "text", params).cache_salt


def test_no_two_share_a_prefix_unless_it_is_computed_alike():
    """Another pathway, none, or the same at the end of a longer prompt."""
    salts = [salt(ONE, 32), salt(OTHER, 32), salt(ONE, 64), salt(None, 32), salt(ONE, 32, "mine")]
    assert len({*salts}) == len(salts)
    assert salt(ONE, 32) == salts[0]
    assert salt(None, 32, "mine") == "mine"
    assert salts[-1].endswith("mine")


def test_what_a_trace_left_in_the_cache_is_nobodys():
    """Found there it would not be forced again, nor counted."""
    trace = Trace(torch.zeros(3).long(), (2,), torch.tensor([[[0, 3]]] * 3), torch.full((3, 1, 2), 0.5), 4)
    named = TRACE_KEY, TraceRequest(trace, "a" * 32).encode()
    assert salt(named, 32) != salt(named, 32)


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
