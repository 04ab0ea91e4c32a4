"""What pathways cost a stock vLLM on the CPU: batches of requests without and with one each.

    python studies/speed/pathways.py --out studies/speed/results/pathways.json

Needs vLLM and ``plugins/vllm``. The same prompts go through one engine in one process, arms in turns, and what is timed
is processor time of one thread, so that other work on the machine does not count. Each pathway changes the last five
layers at every answer token, to 20 experts drawn at random, of which ``top-k`` mixes as many as the model does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import stock_vllm
import torch
from c3po_vllm import acted, export_for_vllm, pathway_request
from turns import in_turns, over
from vllm import LLM, SamplingParams

from c3po_adaptive import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.tasks import demo_questions

NEW = 8  # tokens of an answer
LAYERS, EXPERTS = 5, 20  # that a pathway changes
ARMS = ("none", "top-k", "experts")


def carried(model: RoutedModel, text: str, arm: str, seed: int) -> dict[str, str]:
    """What a request of one arm carries."""
    if arm == "none":
        return {}
    own = model.pathway(text, scope="answer", kind="weights")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(LAYERS, model.n_experts, generator=generator).topk(EXPERTS).indices
    changed = torch.zeros(LAYERS, model.n_experts).scatter(-1, chosen, torch.rand(LAYERS, EXPERTS, generator=generator))
    weights = own.weights.clone()
    weights[-LAYERS:] = changed * own.weights[-LAYERS:].sum(-1, keepdim=True) / changed.sum(-1, keepdim=True)
    top_k = model.sites[0].top_k if arm == "top-k" else None
    return pathway_request(model, replace(own, router=weights, top_k=top_k))


def measured(llm: LLM, model: RoutedModel, texts: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """A row an arm: its seconds over those of the arm without pathways, turn by turn."""
    extra = {arm: [carried(model, text, arm, seed) for seed, text in enumerate(texts)] for arm in ARMS}
    options = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}
    sampling = {arm: [SamplingParams(**options, extra_args=one or None) for one in extra[arm]] for arm in ARMS}
    ways = {arm: partial(llm.generate, list(texts), sampling[arm], use_tqdm=False) for arm in ARMS}
    seconds, told = in_turns(ways, repeats)
    for arm, sent in extra.items():
        tokens = sum(acted(one.kv_transfer_params)["tokens"] for one, own in zip(told[arm], sent, strict=True) if own)
        if tokens != (wanted := 0 if arm == "none" else NEW * len(texts)):
            raise SystemExit(f"Expected pathways of {arm} to act at {wanted} tokens, got {tokens}; nothing is told.")
    return [
        {
            "arm": arm,
            "requests_per_second": round(len(texts) / statistics.median(seconds[arm]), 2),
            **over(seconds[arm], seconds["none"]),
            "bytes_per_request": round(statistics.mean(sum(map(len, one.values())) for one in extra[arm])),
        }
        for arm in ARMS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--model", default="smollm2-moe")
    parser.add_argument("--requests", type=int, default=8, help="in a batch")
    parser.add_argument("--repeats", type=int, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["C3PO_EXPERTS"] = str(EXPERTS)  # the widest pathways mix as many
    model = load_moe_model(given.model, dtype="float32")
    texts = [f"Question: {q.question}\nAnswer:" for q in demo_questions("test", limit=given.requests)]
    with tempfile.TemporaryDirectory() as place:
        folder = export_for_vllm(model, Path(place) / "served", multiple_of=32)
        options = {"enforce_eager": True, "enable_prefix_caching": False, "max_model_len": 512, "max_num_seqs": 64}
        rows = measured(LLM(str(folder), dtype="float32", **options), model, texts, given.repeats)
    told = {"model": given.model, "requests": given.requests, "tokens": NEW, "layers": LAYERS, "experts": EXPERTS}
    stock_vllm.write_results(given.out, rows, told | {"repeats": given.repeats})


if __name__ == "__main__":
    main()
