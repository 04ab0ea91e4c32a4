"""Routing of prime-RL and llama.cpp: bytes laid out as their own code does become what was recorded, or are refused."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from c3po_vllm.engine_files import import_trace
from routing.naive import shared_model
from routing.recorded import own_trace

from c3po_adaptive import read_routing
from c3po_adaptive.errors import DataError, ModelError, SettingError, ShapeError
from c3po_adaptive.models.traced import parted

FAMILIES = ("olmoe", "deepseek_v3")  # the second one's first layer is dense, and its router scales weights
NAN = float("nan")


def decoder_rows(trace, values, layers=3):
    """``[T - 1, decoder layers, …]`` of a trace's places, zeros in dense layers."""
    rows = torch.zeros(len(values) - 1, layers, values.shape[-1], dtype=values.dtype)
    rows[:, list(trace.layers)] = values[:-1]
    return rows.numpy()


# -- prime-RL ----------------------------------------------------------------------------------------------------------


def payload(array, start=0):
    """As ``serialize_routed_experts`` of prime-RL's src/prime_rl/inference/vllm/routed_experts.py makes it."""
    array = np.ascontiguousarray(array)
    return {
        "data": base64.b64encode(memoryview(array)).decode("ascii"),
        "shape": list(array.shape),
        "start": start,
        "dtype": array.dtype.name,
    }


def packed(trace):
    """As ``pack_routing`` of Total Router Recall (prime-rl#3523): int32 ids, then the bits of float32 weights."""
    weights = trace.weights / trace.weights.sum(-1, keepdim=True)
    return decoder_rows(trace, torch.cat((trace.experts.to(torch.int32), weights.view(torch.int32)), -1)), weights


def answered(folder, experts, trace):
    """The answer of ``/inference/v1/generate``, which has no tokens of the prompt, and the tokens of both."""
    choice = {"index": 0, "token_ids": trace.tokens[-4:].tolist(), "routed_experts": experts}
    (folder / "a.json").write_text(json.dumps({"request_id": "a", "choices": [choice]}))
    return folder / "a.json", trace.tokens.tolist()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_of_prime_rl(family, kind, tmp_path):
    own = own_trace(family)
    file, tokens = answered(tmp_path, payload(decoder_rows(own, own.experts).astype(kind)), own)
    found = import_trace(shared_model(family), "prime-rl", file, tokens=tokens)
    assert torch.equal(found.experts, own.experts) and torch.equal(found.tokens, own.tokens)
    assert (found.weights, found.engine) == (None, "prime-RL")


def test_ids_that_begin_later_and_say_no_type_as_older_ones(tmp_path):
    own = own_trace()
    later = payload(decoder_rows(own, own.experts).astype(np.uint8)[5:], start=5)
    del later["dtype"]
    file, tokens = answered(tmp_path, later, own)
    found = import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens)
    assert torch.equal(found.experts[5:], own.experts[5:]) and not found.recorded[:5].any()


def test_ids_packed_with_weights(tmp_path):
    own = own_trace()
    array, weights = packed(own)
    file, tokens = answered(tmp_path, payload(array), own)
    found = import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens)
    assert torch.equal(found.experts, own.experts)
    assert torch.equal(found.weights[:-1], weights[:-1]), "to the bit"


def test_weights_that_the_model_scales_afterwards_are_refused(tmp_path):
    own = own_trace("deepseek_v3")
    file, tokens = answered(tmp_path, payload(packed(own)[0]), own)
    with pytest.raises(ModelError, match=r"before the model scales them by \d"):
        import_trace(shared_model("deepseek_v3"), "prime-rl", file, tokens=tokens)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": None}, DataError, "base64 of int32"),
        ({"data": "no base64"}, DataError, "base64 of int32"),
        ({"data": "AAA="}, DataError, "base64 of int32"),
        ({"dtype": "object"}, DataError, "as uint8, int16, uint16, int32, got 'object'"),
        ({"dtype": ["int32"]}, DataError, "uint16, int32, got .'int32'"),
        ({"shape": [10**9, 10**9, 10**9]}, DataError, "numbers of int32, as their shape says"),
        ({"shape": [-1, 3, 4]}, DataError, "shape .tokens, layers, k"),
        ({"shape": "abc"}, DataError, "shape .tokens, layers, k"),
        ({"shape": [564]}, DataError, "shape .tokens, layers, k"),
        ({"start": -1}, DataError, "a start beside the data"),
        ({"start": 1}, ShapeError, "of the 46 tokens between 1 and the last"),
        ({"shape": [47, 4, 3]}, ShapeError, "got 3 in 4"),
    ],
)
def test_other_payloads_of_prime_rl_are_refused(changes, error, said, tmp_path):
    own = own_trace()
    file, tokens = answered(tmp_path, payload(packed(own)[0]) | changes, own)
    with pytest.raises(error, match=rf"a\.json: .*{said}"):
        import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens)


@pytest.mark.parametrize("weight", [NAN, -0.5, float("inf")])
def test_packed_weights_that_no_router_gives_are_refused(weight, tmp_path):
    own = own_trace()
    array, _ = packed(own)
    array[3, 1, 2:].view(np.float32)[0] = weight
    file, tokens = answered(tmp_path, payload(array), own)
    with pytest.raises(ShapeError, match="finite weights"):
        import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens)


def test_answers_of_another_server_or_with_a_start_of_ones_own_are_refused(tmp_path):
    own = own_trace()
    file, tokens = answered(tmp_path, "text, as vLLM gives", own)
    with pytest.raises(DataError, match="got str; of vLLM's own server import it as vllm"):
        import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens)
    with pytest.raises(SettingError, match="no start for prime-rl"):
        import_trace(shared_model("olmoe"), "prime-rl", file, tokens=tokens, start=2)


# -- llama.cpp ---------------------------------------------------------------------------------------------------------


def moe_trace(trace, chunks, order=None, last=2):
    """As ``moe_cb`` of ggml-org/llama.cpp#28544, examples/moe-trace/moe-trace.cpp, prints it, batch by batch.

    Args:
        trace: whose experts are best first.
        chunks: tokens of each batch.
        order: ``[T, L, E]`` all experts in their order, of which the tool reads the first as if they were whole.
        last: the last decoder layer, which computes the last token of a batch alone.
    """
    k, lines, begin = trace.experts.shape[-1], [], 0
    for n in chunks:
        for position, layer in enumerate(trace.layers):
            first = begin + n - 1 if layer == last else begin
            count = (begin + n - first) * k
            memory = (trace.experts if order is None else order)[first : begin + n, position].flatten()
            lines += [f"{layer},{expert}\n" for expert in memory[:count].tolist()]
        begin += n
    return "".join(lines)


def whole_trace(family):
    """A trace whose last token was run, too: llama.cpp runs all that it is given."""
    model, own = shared_model(family), own_trace(family)
    read = read_routing(model, {"input_ids": own.tokens[None]})
    return model, replace(own, experts=read.experts[0], weights=read.weights[0]), read.logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpps_rows_of_one_token_a_batch(family, tmp_path):
    model, own, logits = whole_trace(family)
    order = torch.cat((own.experts, logits.argsort(-1, descending=True)[..., own.experts.shape[-1] :]), -1)
    file = tmp_path / "moe_trace.csv"
    file.write_text(moe_trace(own, [1] * len(own.tokens), order))
    found = import_trace(model, "llama.cpp", file, tokens=own.tokens.tolist())
    assert torch.equal(found.experts, own.experts) and found.recorded.all()
    assert (found.weights, found.engine) == (None, "llama.cpp")


def test_llama_cpps_rows_of_batches_that_are_read_rightly(tmp_path):
    model, own, _ = whole_trace("olmoe")
    file, chunks = tmp_path / "moe_trace.csv", [30, 16, 1, 1]
    file.write_text(moe_trace(own, chunks))
    found = import_trace(model, "llama.cpp", file, tokens=own.tokens.tolist())
    assert not parted(found, own).any()
    ends = {sum(chunks[: i + 1]) - 1 for i in range(len(chunks))}
    assert found.recorded[:, :-1].all() and {*found.recorded[:, -1].nonzero().flatten().tolist()} == ends


def test_llama_cpps_rows_of_batches_that_the_tool_reads_wrongly_are_refused(tmp_path):
    """As it was first proposed: what it gives for several tokens is no router's choice, and looks like one."""
    model, own, logits = whole_trace("olmoe")
    (tmp_path / "a.csv").write_text(moe_trace(own, [len(own.tokens)], logits.argsort(-1, descending=True)))
    with pytest.raises(ShapeError, match=r"a batch of several tokens wrongly; run llama-moe-trace with -ub 1"):
        import_trace(model, "llama.cpp", tmp_path / "a.csv", tokens=own.tokens.tolist())


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        (lambda text: "", DataError, "lines layer,expert"),
        (lambda text: "layer,expert\n" + text, DataError, "lines layer,expert"),
        (lambda text: text.replace(",", ",1,"), DataError, "3 numbers a line"),
        (lambda text: text.replace("0,", "0,0.5"), DataError, "lines layer,expert"),
        (lambda text: text + "0," + "9" * 40, DataError, "lines layer,expert"),
        (lambda text: text + "é", DataError, "lines layer,expert"),
        (lambda text: text.partition("\n")[2], ShapeError, "2 experts a token in MoE layers 0 to 2"),
        (lambda text: text + "0,1\n0,2\n", ShapeError, "in layers 0 to 0 of a batch"),
        (lambda text: text * 2, ShapeError, "rows of 48 tokens, got those of 96"),
        (lambda text: text.replace("2,", "7,"), ShapeError, "in layers 0 to 7 of a batch"),
        (lambda text: "0,9\n0,8\n" + text.split("\n", 2)[2], ShapeError, "from 0 to 7"),
    ],
)
def test_other_files_of_llama_cpp_are_refused(changed, error, said, tmp_path):
    model, own, _ = whole_trace("olmoe")
    (tmp_path / "a.csv").write_text(changed(moe_trace(own, [1] * len(own.tokens))))
    with pytest.raises(error, match=rf"a\.csv: .*{said}"):
        import_trace(model, "llama.cpp", tmp_path / "a.csv", tokens=own.tokens.tolist())
