"""What replaying routes costs a training step: the same step with and without, in turns, in one run.

    python studies/speed/replayed_steps.py --out studies/speed/results/replayed_steps.json

A random OLMoE of four layers at a quarter of the width is trained on random tokens, forward and backward. What is timed
is processor time of one thread, so that other work on the machine counts little; each turn's steps are divided by that
turn's plain step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from turns import in_turns, over

from c3po_adaptive import read_routing, replaying
from c3po_adaptive.testing import tiny_moe

SIZE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "vocab_size": 8192,
    "initializer_range": 0.02,
    "max_position_embeddings": 1024,
}


def step(model: Any, batch: dict[str, torch.Tensor], routes: tuple[Any, ...] | None) -> None:
    """One forward and backward."""
    model.zero_grad()
    with nullcontext() if routes is None else replaying(model, *routes):
        model(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()


def measured(model: Any, batch: dict[str, torch.Tensor], repeats: int) -> list[dict[str, Any]]:
    """A row an arm."""
    with torch.no_grad():
        found = read_routing(model, batch)
    routes = {"plain": None, "ids": (found.experts,), "ids and weights": (found.experts, found.weights)}
    seconds, _ = in_turns({arm: partial(step, model, batch, own) for arm, own in routes.items()}, repeats)
    return [
        {"arm": arm, "seconds": round(statistics.median(took), 3), **over(took, seconds["plain"], digits=3)}
        for arm, took in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = tiny_moe("olmoe", **SIZE).requires_grad_(True).train()
    ids = torch.randint(5, SIZE["vocab_size"], (4, asked.tokens), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    rows = measured(model, batch, asked.repeats)
    for row in rows:
        print(row)
    told = {"tokens": ids.numel(), "repeats": asked.repeats, "cpus": os.cpu_count(), "torch": torch.__version__}
    asked.out.write_text(json.dumps({**told, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
