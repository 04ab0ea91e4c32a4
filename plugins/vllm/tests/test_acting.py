"""Each row of a batch along its own request's pathway, as transformers would do it."""

from dataclasses import replace

import pytest
import torch
from c3po_vllm import KEY, PathwayRequest, TraceRequest, pathway_request
from c3po_vllm.acting import Acting

from c3po_adaptive import load_moe_model
from c3po_adaptive.errors import ModelError
from c3po_adaptive.models.tiny import write_tiny_checkpoint
from c3po_adaptive.routing.intercept import intercepted
from c3po_adaptive.routing.mixing import dense
from c3po_adaptive.routing.styles import Change
from c3po_adaptive.routing.trace import Trace

OWN = torch.tensor([[0.6, 0.4, 0.0, 0.0]])
OMEGA = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
ASKED = PathwayRequest(OMEGA, OWN, (5,), "last", "replace", None, None, "a" * 32)


def routed(step, rows, layer=5, scale=1.0):
    """Dense routing ``[R, E]`` of rows that chose experts 0 and 1."""
    index, weights = torch.tensor([[0, 1]] * rows, dtype=torch.int32), torch.tensor([[0.6, 0.4]] * rows)
    index, weights = step.route(layer, index, weights / scale, scale)
    return dense(index.long(), weights * scale, 4)


def test_rows_of_others_stay_and_each_request_has_its_own():
    acting = Acting()
    acting.begin("a", ASKED, prompt_length=2)
    acting.begin("b", replace(ASKED, scope="answer", top_k=2), prompt_length=1)
    step = acting.step([("a", 0, 2), ("plain", 7, 1), ("b", 3, 1)])
    found = routed(step, 4)
    torch.testing.assert_close(found[0], OWN[0])
    torch.testing.assert_close(found[1], OMEGA[0])
    torch.testing.assert_close(found[2], OWN[0])
    torch.testing.assert_close(found[3], torch.tensor([0.0, 0.0, 3 / 7, 4 / 7]))  # ω0 + Δω is ω, its two largest
    step.finish()
    assert acting.counted("a", 2) == {"tokens": 1, "layers": 1, "acted": 1}
    assert acting.counted("b", 9) == {"tokens": 1, "layers": 1, "acted": 1}
    assert acting.counted("b", 3) == {"tokens": 0, "layers": 1, "acted": 0}, "a token beyond the answer's end"


def test_prompts_in_pieces_and_answers_act_at_their_places():
    acting = Acting()
    acting.begin("a", ASKED, prompt_length=5)
    assert acting.step([("a", 0, 3)]) is None
    assert [row.place for row in acting.step([("a", 3, 2)]).rows] == [4]
    assert acting.step([("a", 5, 1)]) is None
    acting.begin("a", replace(ASKED, scope="answer"), prompt_length=5)
    assert [row.place for row in acting.step([("a", 3, 2)]).rows] == [4]
    assert [(row.place, row.replaced) for row in acting.step([("a", 4, 3)]).rows] == [(4, True), (5, False), (6, False)]
    acting.begin("a", replace(ASKED, scope="answer", transfer="shift", prompt_tokens=2), prompt_length=5)
    assert [(row.place, row.replaced) for row in acting.step([("a", 0, 3)]).rows] == [(1, False), (2, False)]
    everywhere = replace(ASKED, scope="all")
    acting.begin("a", everywhere, prompt_length=5)
    assert [(row.place, row.replaced) for row in acting.step([("a", 3, 3)]).rows] == [(3, False), (4, True), (5, False)]
    assert ASKED.reads_cache(5) and not everywhere.reads_cache(5)


def test_a_trace_is_forced_token_by_token_beside_a_pathway():
    """Places and layers that it did not record are the router's, and so are tokens behind it."""
    experts = torch.tensor([[[2, 3]], [[-1, -1]], [[3, 1]]])
    trace = Trace(torch.tensor([7, 8, 9]), (5,), experts, torch.tensor([[[0.7, 0.2]], [[0.0, 0.0]], [[0.5, 0.3]]]), 4)
    acting = Acting()
    acting.begin("t", TraceRequest(trace, "a" * 32), prompt_length=4)
    acting.begin("a", ASKED, prompt_length=1)
    step = acting.step([("t", 0, 2), ("a", 0, 1)])
    found = routed(step, 3)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.7, 0.2], OWN[0].tolist(), OMEGA[0].tolist()]))
    step.finish()
    step = acting.step([("t", 2, 2)])
    torch.testing.assert_close(routed(step, 2, scale=2.5), torch.tensor([[0.0, 0.3, 0.0, 0.5], OWN[0].tolist()]))
    step.finish()
    assert acting.counted("t", 4) == {"tokens": 2, "layers": 1, "acted": 2}
    assert acting.step([("t", 4, 1)]) is None


def test_a_trace_of_more_experts_than_the_router_takes():
    experts, weights = torch.tensor([[[3, 0, 2]]]), torch.tensor([[[0.5, 0.2, 0.1]]])
    acting = Acting()
    asked = TraceRequest(Trace(torch.tensor([7]), (5,), experts, weights, 4), "a" * 32)
    acting.begin("t", asked, prompt_length=1)
    found = routed(acting.step([("t", 0, 1), ("plain", 0, 1)]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.0, 0.1, 0.5], OWN[0].tolist()]))


def test_what_an_engine_scales_later_is_not_scaled_twice():
    acting = Acting()
    acting.begin("a", ASKED, prompt_length=1)
    torch.testing.assert_close(routed(acting.step([("a", 0, 1)]), 1, scale=2.5)[0], OMEGA[0])


def test_routing_keeps_its_types_and_its_width_where_no_row_mixes_more():
    acting = Acting()
    acting.begin("a", replace(ASKED, top_k=1), prompt_length=1)
    step = acting.step([("a", 0, 1), ("plain", 0, 1)])
    index, weights = torch.tensor([[0, 1]] * 3, dtype=torch.int32), torch.tensor([[0.6, 0.4]] * 3, dtype=torch.bfloat16)
    new, mixed = step.route(5, index, weights)  # a row of padding comes after the batch
    assert (new.dtype, mixed.dtype, new.shape) == (torch.int32, torch.bfloat16, (3, 2))
    assert new[0, 0] == 3
    assert torch.equal(new[1:], index[1:])
    assert torch.equal(mixed[1:], weights[1:])
    assert index.tolist() == [[0, 1]] * 3, "the router's own is left alone"


def test_a_layer_that_never_asks_is_an_error():
    acting = Acting()
    acting.begin("a", ASKED, prompt_length=1)
    step = acting.step([("a", 0, 1)])
    routed(step, 1, layer=4)
    with pytest.raises(ModelError, match=r"layers \[5\]"):
        step.finish()


def test_a_layer_that_sees_fewer_rows_than_the_step_has_is_an_error():
    """Whose they are cannot be told then."""
    acting = Acting()
    acting.begin("a", ASKED, prompt_length=1)
    step = acting.step([("a", 0, 1), ("plain", 0, 1)])
    with pytest.raises(ModelError, match="2 tokens, got 1"):
        routed(step, 1)


def test_requests_that_end_are_forgotten_and_preempted_ones_keep_their_counts():
    acting = Acting()
    acting.begin("a", replace(ASKED, scope="answer"), prompt_length=1)
    for place in range(3):
        step = acting.step([("a", place, 1)])
        routed(step, 1)
        step.finish()
    acting.begin("a", replace(ASKED, scope="answer"), prompt_length=1)
    assert acting.counted("a", 9)["tokens"] == 3
    acting.end("a")
    acting.end("a")
    assert acting.step([("a", 3, 1)]) is None


@pytest.mark.parametrize("scope", ["last", "answer", "all"])
@pytest.mark.parametrize("family", ["olmoe", "qwen2_moe", "deepseek_v2"])
def test_a_step_means_what_transformers_generates_by(family, scope, tmp_path):
    """Prompt and answer as one step, as an engine runs them again after preemption: the same logits."""
    model = load_moe_model(write_tiny_checkpoint(tmp_path / family, family))
    own = model.pathway("a stone or a boat", scope=scope, kind="weights")
    pathway = replace(own, router=own.weights.flip(-1).roll(1, -1))
    ids = model.tokenizer("a stone or a boat", return_tensors="pt").input_ids
    batched = pathway[None]
    with torch.no_grad(), model.lock, model.decoding(batched, torch.ones_like(ids)):
        out = model.model.generate(
            ids, max_new_tokens=4, min_new_tokens=4, do_sample=False, output_logits=True,
            return_dict_in_generate=True, pad_token_id=0,
        )  # fmt: skip
    acting = Acting()
    acting.begin("a", PathwayRequest.decode(pathway_request(model, pathway)[KEY]), ids.shape[1])
    step = acting.step([("a", 0, out.sequences.shape[1] - 1)])

    def rule(position, index, weights):
        return Change(None, *step.route(model.layers[position], index, weights))

    with torch.no_grad(), intercepted(model.sites, rule):
        logits = model.model(out.sequences[:, :-1]).logits[0, ids.shape[1] - 1 :]
    torch.testing.assert_close(logits, torch.stack(out.logits, 1)[0], rtol=1e-4, atol=1e-4)
    step.finish()
    tokens = {"last": 1, "answer": 4, "all": ids.shape[1] + 3}[scope]
    assert acting.counted("a", 99) == {"tokens": tokens, "layers": len(own.layers), "acted": tokens * len(own.layers)}
