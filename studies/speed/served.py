"""Plain answers beside a stock vLLM on the CPU: speed and parity.

    python studies/speed/served.py --out studies/speed/results/served.json

Needs vLLM and ``plugins/vllm``. Both answer the same of the demo's questions by the same checkpoint in one process, in
turns, and what is timed is processor time of one thread, so that other work on the machine does not count.
``options``: every option's tokens are scored, by vLLM as prompts with ``prompt_logprobs``; ``generation``: greedy
continuations, a batch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import stock_vllm
from turns import a_second, in_turns, over

os.environ["VLLM_PLUGINS"] = ""

import torch
from c3po_vllm import export_for_vllm
from vllm import LLM, SamplingParams

from c3po_adaptive import load_moe_model
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.tasks import demo_questions
from c3po_adaptive.types import Question

NEW = 24  # tokens of a generated answer


def our_options(model: RoutedModel, questions: Sequence[Question]) -> list[list[float]]:
    """Of each question, each option's log-likelihood over its length."""
    states = model.prefill([model.encode(q) for q in questions], keep=False)
    return [scores.tolist() for scores in model.choice_scores(states)]


def their_options(llm: LLM, model: RoutedModel, questions: Sequence[Question]) -> list[list[float]]:
    """The same."""
    prompts = [model.encode(q) for q in questions]
    texts = [(p, *one) for p in prompts for one in zip(p.options, p.lengths, strict=True)]
    asked = [{"prompt_token_ids": [*p.ids, *option]} for p, option, _ in texts]
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0)
    scores = []
    for (p, option, length), told in zip(texts, llm.generate(asked, sampling, use_tqdm=False), strict=True):
        found = told.prompt_logprobs[len(p.ids) :]
        each = [one[token].logprob for one, token in zip(found, option, strict=True)]
        scores.append(sum(each) / length)
    cut = iter(scores)
    return [[next(cut) for _ in p.options] for p in prompts]


def our_texts(model: RoutedModel, questions: Sequence[Question]) -> list[list[int]]:
    """Token ids of greedy continuations."""
    texts = [f"Question: {q.question}\nAnswer:" for q in questions]
    options = {"min_new_tokens": NEW, "max_new_tokens": NEW, "do_sample": False}
    return [model.tokenizer(text).input_ids for text in model.generate(texts, **options)]


def their_texts(llm: LLM, model: RoutedModel, questions: Sequence[Question]) -> list[list[int]]:
    """The same."""
    texts = [f"Question: {q.question}\nAnswer:" for q in questions]
    asked = [{"prompt_token_ids": list(model.encode_text(text).ids)} for text in texts]
    sampling = SamplingParams(min_tokens=NEW, max_tokens=NEW, temperature=0)
    told = llm.generate(asked, sampling, use_tqdm=False)
    return [model.tokenizer(one.outputs[0].text).input_ids for one in told]


def row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], questions: int, repeats: int) -> dict[str, Any]:
    """Both, in turns."""
    seconds, found = in_turns({"c3po": ours, "vllm": theirs}, repeats)
    return {
        "task": name,
        "questions": questions,
        **a_second(seconds, questions),
        **over(seconds["vllm"], seconds["c3po"]),
        **(_parity(found["c3po"], found["vllm"]) if name == "options" else _same(found["c3po"], found["vllm"])),
    }


def _parity(ours: list[list[float]], theirs: list[list[float]]) -> dict[str, float]:
    apart = [abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)]
    return {"difference": max(apart)} | _same([x.index(max(x)) for x in ours], [x.index(max(x)) for x in theirs])


def _same(ours: Sequence[Any], theirs: Sequence[Any]) -> dict[str, float]:
    return {"same": sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--model", default="smollm2-moe")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load_moe_model(given.model, dtype="float32")
    asked = demo_questions("test", limit=given.questions)
    with tempfile.TemporaryDirectory() as place:
        folder = export_for_vllm(model, Path(place) / "served", multiple_of=32)
        llm = LLM(str(folder), dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=64)
        rows = [
            row(name, partial(ours, model, asked), partial(theirs, llm, model, asked), len(asked), given.repeats)
            for name, ours, theirs in (
                ("options", our_options, their_options),
                ("generation", our_texts, their_texts),
            )
        ]
    stock_vllm.write_results(given.out, rows, {"model": given.model, "repeats": given.repeats})


if __name__ == "__main__":
    main()
